"""`infrakit history`: lists the versions of the declaration, and prints one."""

from collections.abc import Sequence

import click

from infrakit.cli import daemon, numbers, options, output, tables
from infrakit.spi.event import to_the_second
from infrakit.spi.manager import Version


@click.command
@click.option(
    "-n", "--limit", type=numbers.whole(1), default=20, show_default=True, help="Number of versions, newest first."
)
@click.option(
    "--show", "version", type=numbers.whole(0), metavar="VERSION", help="Print the declaration of a version instead."
)
@options.output
def history(limit: int, version: int | None, output_format: str) -> None:
    """List the versions of the declaration.

    Newest first, each with its author, change and reason; `infrakit restore VERSION` commits one again. While no
    daemon is running here, they are read from the store of the last one.

    \b
    Example:
      infrakit history --show 3 > old.json
    """
    if version is None:
        output.show(daemon.history(limit=limit), output_format, _print_table)
        return
    import msgspec

    document = daemon.show(version=version)
    fmt = "yaml" if output_format == "yaml" else "json"
    click.echo(output.encode(msgspec.Raw(document.encode()), fmt))


def _print_table(versions: Sequence[Version]) -> None:
    header = ("VERSION", "WHEN", "WHO", "WHAT", "DECLARED", "WHY")
    rows = [(str(v.version), to_the_second(v.when), v.who, v.what, ",".join(v.groups) or "-", v.why) for v in versions]
    output.lines(list(tables.table(header, rows)))
