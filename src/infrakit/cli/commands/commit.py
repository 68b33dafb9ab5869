"""`infrakit commit`: commits the groups of a document to the declaration."""

import click

from infrakit.cli import arguments, changes, daemon, documents, options, rendering
from infrakit.spi.manager import Manager


@click.command
@arguments.file
@options.template
@options.message()
@options.expect
@options.destroys
@options.wait
@options.output
def commit(  # noqa: PLR0917
    file: str,
    template_options: rendering.TemplateOptions,
    why: str | None,
    expect: int | None,
    destroys: int,
    wait: float | None,
    output_format: str,
) -> None:
    """Commit the groups declared in FILE to the running daemon.

    Returns once the declaration is durable; groups that FILE does not name are not changed. What destroys more than 2
    and 30% of a group's members without replacing them, or a quorum's majority, needs --destroys.

    \b
    Example:
      infrakit commit infrakit.yaml -m "two more workers" --wait=2m
    """
    document = documents.read(file, template_options)
    why = why or f"commit {document.source}"
    with document.errors_located():
        committed = daemon.change(
            Manager.commit, text=document.text, source=document.source, why=why, expected=expect, destroys=destroys
        )
    changes.declared(committed, output_format, f"Committed {document.source}", wait_s=wait)
