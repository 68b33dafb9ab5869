"""`infrakit restore`: an earlier version is declared again, as a new one."""

import click

from infrakit.cli import arguments, daemon, options, orders
from infrakit.spi.manager import Manager


@click.command
@arguments.version
@options.message(required=True)
@options.expect
@options.wait
@options.output
def restore(version: int, why: str, expect: int | None, wait: float | None, output_format: str) -> None:
    """Declare an earlier version again.

    It becomes a new version, so that nothing of the history is lost.

    \b
    Example:
      infrakit restore 3 -m "the new image does not start"
    """
    committed = daemon.ask(Manager.restore, version=version, who=daemon.who(), why=why, expected=expect)
    orders.declared(committed, output_format, f"Restored version {version}", wait_s=wait)
