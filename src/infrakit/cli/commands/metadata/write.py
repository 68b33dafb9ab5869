"""`infrakit metadata set`, `rm`, `history`, `restore`."""

from collections.abc import Sequence

import click
import msgspec

from infrakit.cli import arguments, daemon, facts, numbers, options, output, tables
from infrakit.cli.commands.metadata import shown
from infrakit.spi import paths
from infrakit.spi.metadata import Change, Revision, Tree, Written

VARS = "vars"  # the plugin that is there to be written

expect = click.option(
    "--expect",
    type=numbers.whole(0),
    metavar="VERSION",
    help="Refuse if the plugin's tree has moved on from this version.",
)
plugin = click.option("--plugin", default=VARS, show_default=True, help="Whose versions.")


@click.command("set")
@arguments.required("pairs", many=True, empty=True, metavar="PATH VALUE [PATH VALUE]...", shell_complete=shown.complete)
@click.option("--string", "as_text", is_flag=True, help="Take each VALUE as a text, whatever it looks like.")
@options.message()
@expect
@options.output
def set_(pairs: tuple[str, ...], as_text: bool, why: str | None, expect: int | None, output_format: str) -> None:
    """Set the value at each PATH, all at once or not at all.

    A VALUE that is JSON is taken as such, anything else is a text. It replaces what is there, with all that is below.
    Write -- before values that begin with a dash.

    \b
    Example:
      infrakit metadata set vars/cluster/name blue vars/cluster/size 3 -m "it has a name"
    """
    if len(pairs) % 2:
        raise click.UsageError(f"Each PATH needs a VALUE, and {pairs[-1]!r} has none.")
    every = dict(zip(pairs[::2], pairs[1::2], strict=True))
    if len(every) * 2 != len(pairs):
        raise click.UsageError("A PATH stands there twice.")
    changes = tuple(Change(path=path, value=shown.parse(value, as_text=as_text)) for path, value in every.items())
    named = ", ".join(every)
    written = facts.ask(
        Tree.write, changes=changes, remove=(), who=daemon.who(), why=why or f"set {named}", expected=expect
    )
    _say(written, output_format, f"Set {named}", next(iter(every)))


@click.command
@arguments.required("path", many=True, shell_complete=shown.complete)
@options.message()
@expect
@options.output
def rm(path: tuple[str, ...], why: str | None, expect: int | None, output_format: str) -> None:
    """Remove what is at each PATH, with all that is below, all at once or not at all.

    \b
    Example:
      infrakit metadata rm vars/cluster/size -m "it is not used"
    """
    named = ", ".join(path)
    written = facts.ask(
        Tree.write, changes=(), remove=path, who=daemon.who(), why=why or f"remove {named}", expected=expect
    )
    _say(written, output_format, f"Removed {named}", path[0])


def _say(written: Written, output_format: str, done: str, path: str) -> None:
    name = (paths.split(path) or (VARS,))[0]
    version = f": {name} version {written.version}" if written.version else ""
    output.show(written, output_format, lambda _: click.echo(f"{tables.clean(done)}{version}"))


@click.command
@click.option("-n", "--limit", type=numbers.whole(1), default=20, show_default=True, help="Newest versions shown.")
@click.option(
    "--show", "version", type=numbers.whole(0), metavar="VERSION", help="Print the values of a version instead."
)
@plugin
@options.output
def history(limit: int, version: int | None, plugin: str, output_format: str) -> None:
    """List the versions of the values that were set.

    Newest first, each with who, what and why; `infrakit metadata restore VERSION` sets one again.

    \b
    Example:
      infrakit metadata history -n 5
    """
    if version is None:
        output.show(facts.ask(Tree.history, plugin=plugin, limit=limit), output_format, _people)
        return
    values = msgspec.json.decode(facts.ask(Tree.show, plugin=plugin, version=version))
    click.echo(output.encode(values, "yaml" if output_format == "yaml" else "json"))


def _people(versions: Sequence[Revision]) -> None:
    header = ("VERSION", "WHEN", "WHO", "WHAT", "WHY")
    rows = [(str(v.version), tables.moment(v.when), v.who, v.what, v.why) for v in versions]
    output.lines(list(tables.table(header, rows)))


@click.command
@arguments.version
@plugin
@options.message(required=True)
@expect
@options.output
def restore(version: int, plugin: str, why: str, expect: int | None, output_format: str) -> None:
    """Set all values to what they were in an earlier version.

    It becomes a new version, so that nothing of the history is lost.

    \b
    Example:
      infrakit metadata restore 1 -m "the new names were wrong"
    """
    written = facts.ask(Tree.restore, plugin=plugin, version=version, who=daemon.who(), why=why, expected=expect)
    _say(written, output_format, f"Restored version {version}", plugin)
