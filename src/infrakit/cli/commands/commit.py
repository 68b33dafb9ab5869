"""`infrakit commit`: a document becomes the declaration."""

import click

from infrakit.cli import daemon, documents, options, orders
from infrakit.spi.manager import Manager


@click.command
@options.file
@options.message()
@options.expect
@options.wait
@options.output
def commit(file: str, why: str | None, expect: int | None, wait: float | None, output_format: str) -> None:
    """Declare the groups of FILE to the running daemon.

    Returns once the declaration is durable; groups that FILE does not name are left alone.

    \b
    Example:
      infrakit commit infrakit.yaml -m "two more workers" --wait=2m
    """
    text, source = documents.read(file)
    committed = daemon.ask(
        Manager.commit, text=text, source=source, who=daemon.who(), why=why or f"commit {source}", expected=expect
    )
    orders.declared(committed, output_format, f"Committed {source}", wait_s=wait)
