"""`infrakit validate`: a document is checked here, by the same code that the daemon uses."""

import click

from infrakit.cli import arguments, documents, options, rendering, tables


@click.command
@arguments.file
@options.template
def validate(file: str, asked: rendering.Asked) -> None:
    """Check FILE and report every error at once; needs no daemon.

    The plugins that FILE names check their own properties. Exit code 0: it can be committed; 1: it cannot.

    \b
    Example:
      infrakit validate infrakit.yaml
    """
    document = documents.read(file, asked)
    import asyncio
    import tempfile
    from pathlib import Path

    from infrakit.runtime import registry

    # Plugins may want a place; nothing in it is kept.
    with document.placed(), tempfile.TemporaryDirectory(prefix="infrakit-") as scratch:
        groups = asyncio.run(registry.validate(document.text, document.source, home=Path(scratch)))
    names = ", ".join(group.name for group in groups)
    groups_found = tables.count(len(groups), "group")
    click.echo(f"{document.source}: valid, {groups_found}{': ' if names else ''}{names}")
