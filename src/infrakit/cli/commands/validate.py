"""`infrakit validate`: a document is checked here, by the same code that the daemon uses."""

import click

from infrakit.cli import documents, options


@click.command
@options.file
def validate(file: str) -> None:
    """Check FILE and report every error at once; needs no daemon.

    The plugins that FILE names check their own properties. Exit code 0: it can be committed; 1: it cannot.

    \b
    Example:
      infrakit validate infrakit.yaml
    """
    text, source = documents.read(file)
    import asyncio
    import tempfile
    from pathlib import Path

    from infrakit.runtime import registry

    with tempfile.TemporaryDirectory(prefix="infrakit-") as scratch:  # plugins may want a place; nothing is kept
        groups = asyncio.run(registry.validate(text, source, home=Path(scratch)))
    names = ", ".join(group.name for group in groups)
    click.echo(f"{source}: valid, {len(groups)} group{'' if len(groups) == 1 else 's'}{': ' if names else ''}{names}")
