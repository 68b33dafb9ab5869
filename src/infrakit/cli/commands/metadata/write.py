"""`infrakit metadata set`, `rm`, `history`, `restore`: the commands that write, and the versions they create."""

from collections.abc import Sequence

import click
import msgspec

from infrakit.cli import arguments, daemon, facts, numbers, options, output, tables
from infrakit.cli.commands.metadata import shown
from infrakit.spi import paths
from infrakit.spi.event import to_the_second
from infrakit.spi.metadata import Change, Revision, Tree, Written

VARS = "vars"  # the plugin for values that operators set

expect = click.option(
    "--expect",
    type=numbers.whole(0),
    metavar="VERSION",
    help="Refuse unless the plugin's tree is still at this version.",
)
plugin = click.option("--plugin", default=VARS, show_default=True, help="Plugin whose versions are listed or restored.")


@click.command("set")
@arguments.required("pairs", many=True, empty=True, metavar="PATH VALUE [PATH VALUE]...", shell_complete=shown.complete)
@click.option("--string", "as_text", is_flag=True, help="Treat each VALUE as text, even if it is valid JSON.")
@options.message()
@expect
@options.output
def set_(pairs: tuple[str, ...], as_text: bool, why: str | None, expect: int | None, output_format: str) -> None:
    """Set the value at each PATH, in one atomic change.

    A VALUE that is valid JSON is stored as such, anything else as text. It replaces the existing value and everything
    below it. Write -- before values that begin with a dash.

    \b
    Example:
      infrakit metadata set vars/name blue vars/size 3 -m "it has a name"
    """
    if len(pairs) % 2:
        raise click.UsageError(f"Each PATH needs a VALUE, and {pairs[-1]!r} has none.")
    every = dict(zip(pairs[::2], pairs[1::2], strict=True))
    if len(every) * 2 != len(pairs):
        raise click.UsageError("A PATH is given twice.")
    changes = tuple(Change(path=path, value=shown.parse(value, as_text=as_text)) for path, value in every.items())
    named = ", ".join(every)
    written = facts.ask(
        Tree.write, changes=changes, remove=(), who=daemon.who(), why=why or f"set {named}", expected=expect
    )
    _report(written, output_format, f"Set {named}", next(iter(every)))


@click.command
@arguments.required("path", many=True, shell_complete=shown.complete)
@options.message()
@expect
@options.output
def rm(path: tuple[str, ...], why: str | None, expect: int | None, output_format: str) -> None:
    """Remove each PATH and everything below it, in one atomic change.

    \b
    Example:
      infrakit metadata rm vars/size -m "no longer used"
    """
    named = ", ".join(path)
    written = facts.ask(
        Tree.write, changes=(), remove=path, who=daemon.who(), why=why or f"remove {named}", expected=expect
    )
    _report(written, output_format, f"Removed {named}", path[0])


def _report(written: Written, output_format: str, done: str, path: str) -> None:
    name = (paths.split(path) or (VARS,))[0]
    version = f": {name} version {written.version}" if written.version else ""
    output.show(written, output_format, lambda _: click.echo(f"{tables.clean(done)}{version}"))


@click.command
@click.option(
    "-n", "--limit", type=numbers.whole(1), default=20, show_default=True, help="Number of versions, newest first."
)
@click.option(
    "--show", "version", type=numbers.whole(0), metavar="VERSION", help="Print the values of a version instead."
)
@plugin
@options.output
def history(limit: int, version: int | None, plugin: str, output_format: str) -> None:
    """List the versions of the values of a plugin.

    Newest first, each with its author, change and reason; `infrakit metadata restore VERSION` restores one.

    \b
    Example:
      infrakit metadata history -n 5
    """
    if version is None:
        output.show(facts.ask(Tree.history, plugin=plugin, limit=limit), output_format, _print_table)
        return
    values = msgspec.json.decode(facts.ask(Tree.show, plugin=plugin, version=version))
    click.echo(output.encode(values, "yaml" if output_format == "yaml" else "json"))


def _print_table(versions: Sequence[Revision]) -> None:
    header = ("VERSION", "WHEN", "WHO", "WHAT", "WHY")
    rows = [(str(v.version), to_the_second(v.when), v.who, v.what, v.why) for v in versions]
    output.lines(list(tables.table(header, rows)))


@click.command
@arguments.version
@plugin
@options.message(required=True)
@expect
@options.output
def restore(version: int, plugin: str, why: str, expect: int | None, output_format: str) -> None:
    """Restore all values of an earlier version.

    It becomes a new version, so that no history is lost.

    \b
    Example:
      infrakit metadata restore 1 -m "the new names were wrong"
    """
    written = facts.ask(Tree.restore, plugin=plugin, version=version, who=daemon.who(), why=why, expected=expect)
    _report(written, output_format, f"Restored version {version}", plugin)
