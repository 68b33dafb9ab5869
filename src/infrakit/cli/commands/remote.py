"""`infrakit remote`: manages the list of remote daemons that commands can be sent to."""

from pathlib import Path

import click
import msgspec

from infrakit.cli import arguments, options, output, tables, words
from infrakit.rpc import remotes, tokens
from infrakit.rpc.remotes import LOCAL, Remote
from infrakit.spi.errors import NotFound


@click.group(cls=words.Commands)
def remote() -> None:
    """Choose the daemon, local or remote, that commands are sent to.

    \b
    Example:
      infrakit remote add prod https://10.0.0.1:24864 --ca ca.pem --cert ann.pem
    """


@remote.command
@arguments.required("name")
@arguments.required("url")
@click.option(
    "--ca", type=click.Path(), default="", help="Certificates of the CA that signed the daemon's certificate."
)
@click.option("--cert", type=click.Path(), default="", help="Your client certificate.")
@click.option("--key", type=click.Path(), default="", help="Its private key; default: in the same file.")
@click.option("--token-file", type=click.Path(), default="", help="A file with your token, instead of a certificate.")
def add(  # noqa: PLR0917
    name: str, url: str, ca: str, cert: str, key: str, token_file: str
) -> None:
    """Add a remote daemon under a name.

    Only the paths of the files are stored; the files are read at each use.

    \b
    Example:
      infrakit remote add prod https://10.0.0.1:24864 --ca ca.pem --token-file tok
    """
    if name == LOCAL:
        raise click.BadParameter(f"{LOCAL!r} is reserved for the daemon of this machine.")
    known = remotes.load()
    files = {"ca": ca, "cert": cert, "key": key, "token_file": token_file}
    paths = {field: str(Path(path).expanduser().absolute()) if path else "" for field, path in files.items()}
    known.known[name] = Remote(url=remotes.check_url(url), **paths)
    remotes.check(known.known[name])
    remotes.save(known)
    click.echo(f"{name} is {known.known[name].url}; `infrakit remote use {name}` sends every command there")


@remote.command
@options.output
def ls(output_format: str) -> None:
    """List the known daemons, and the one that commands are sent to.

    \b
    Example:
      infrakit remote ls
    """
    known = remotes.load()
    output.show(known, output_format, lambda value: output.lines(_table(value)))


def _table(known: remotes.Remotes) -> list[str]:
    rows: list[list[str | tables.Cell]] = [["*" if known.current == LOCAL else "", LOCAL, "", "this machine"]]
    for name, each in sorted(known.known.items()):
        auth = "certificate" if each.cert else "token" if each.token_file else "none"
        rows.append(["*" if known.current == name else "", name, auth, each.url])
    return list(tables.table(["", "NAME", "AUTH", "URL"], rows))


@remote.command
@arguments.required("name")
def use(name: str) -> None:
    """Send all commands to this daemon from now on.

    `local` is the daemon of this machine.

    \b
    Example:
      infrakit remote use local
    """
    known = remotes.load()
    if name != LOCAL and name not in known.known:
        raise NotFound(f"there is no remote {name!r}", remedy="infrakit remote ls")
    known.current = name
    remotes.save(known)
    click.echo(f"commands are sent to {name} from now on")


@remote.command
@arguments.required("name")
def remove(name: str) -> None:
    """Remove a daemon from the list.

    \b
    Example:
      infrakit remote remove prod
    """
    known = remotes.load()
    if name not in known.known:
        raise NotFound(f"there is no remote {name!r}", remedy="infrakit remote ls")
    del known.known[name]
    known.current = LOCAL if known.current == name else known.current
    remotes.save(msgspec.structs.replace(known))
    click.echo(f"{name} is removed")


@remote.command
@arguments.required("name")
@click.option("--file", "path", type=click.Path(path_type=Path), required=True, help="The daemon's --token-file.")
def token(name: str, path: Path) -> None:
    """Create a token for NAME and print it, once.

    Its hash is added to the daemon's file; the token itself is not stored and cannot be recovered.

    \b
    Example:
      infrakit remote token ann --file tokens > ann.token
    """
    click.echo(tokens.issue(path, name))
