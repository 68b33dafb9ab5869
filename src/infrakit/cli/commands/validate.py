"""`infrakit validate`: checks a document locally, with the same code as the daemon."""

import click

from infrakit.cli import arguments, documents, options, rendering, tables
from infrakit.spi.errors import InfraKitError, Problem


@click.command
@arguments.file
@options.template
def validate(file: str, template_options: rendering.TemplateOptions) -> None:
    """Check FILE and report all errors at once; needs no daemon.

    The plugins that FILE names check their own properties. Exit code 0: FILE can be committed; 1: it cannot. A plugin
    whose client library is not installed here is an error, or only a warning if a remote daemon is selected: the remote
    has its own plugins and checks FILE again.

    \b
    Example:
      infrakit validate infrakit.yaml
    """
    document = documents.read(file, template_options)
    import asyncio
    import tempfile
    from pathlib import Path

    from infrakit.runtime import registry

    warnings: list[Problem] = []
    warn = warnings.append if _daemon_is_elsewhere() else None
    # Plugins may need a home directory; it is deleted after the validation.
    with document.errors_located(), tempfile.TemporaryDirectory(prefix="infrakit-") as scratch:
        groups = asyncio.run(registry.validate(document.text, document.source, home=Path(scratch), warn=warn))
    for each in warnings:
        click.echo(tables.clean(f"{document.source}: warning: {each}"), err=True)
    names = ", ".join(group.name for group in groups)
    groups_found = tables.count(len(groups), "group")
    click.echo(f"{document.source}: valid, {groups_found}{': ' if names else ''}{names}")


def _daemon_is_elsewhere() -> bool:
    """Whether a remote daemon, and so its plugins, will be used; a misconfigured remote does not count."""
    from infrakit.rpc import remotes

    try:
        return remotes.current() is not None
    except InfraKitError:
        return False
