"""`infrakit restore`: commits an earlier version of the declaration again, as a new version."""

import click

from infrakit.cli import arguments, changes, daemon, options
from infrakit.spi.manager import Manager


@click.command
@arguments.version
@options.message(required=True)
@options.expect
@options.destroys
@options.wait
@options.output
def restore(  # noqa: PLR0917
    version: int, why: str, expect: int | None, destroys: int, wait: float | None, output_format: str
) -> None:
    """Commit an earlier version of the declaration again.

    It becomes a new version, so that no history is lost.

    \b
    Example:
      infrakit restore 3 -m "the new image does not start"
    """
    committed = daemon.change(Manager.restore, version=version, why=why, expected=expect, destroys=destroys)
    changes.declared(committed, output_format, f"Restored version {version}", wait_s=wait)
