"""`infrakit plugin ls`: every plugin that a declaration could name here."""

from collections.abc import Sequence

import click

from infrakit.cli import options, output, tables
from infrakit.rpc import discovery


@click.command
@options.output
def ls(output_format: str) -> None:
    """List the plugins that run here, and those that a daemon would host itself.

    \b
    Example:
      infrakit plugin ls
    """
    output.show(discovery.found(), output_format, lambda found: output.lines(_table(found)))


def _table(found: Sequence[discovery.Found]) -> Sequence[str]:
    return list(tables.table(["NAME", "ADDRESS"], [[each.name, each.address] for each in found]))
