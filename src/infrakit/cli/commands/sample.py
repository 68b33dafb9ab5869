"""`infrakit sample`: prints sample declarations, which need only this package and what their first comment names."""

import importlib.resources
import itertools

import click

from infrakit.cli import arguments, tables
from infrakit.spi.errors import NotFound

_SUFFIX = ".yaml"


def names() -> list[str]:
    """Return the names of all samples."""
    found = (importlib.resources.files("infrakit.cli") / "samples").iterdir()
    return sorted(each.name.removesuffix(_SUFFIX) for each in found if each.name.endswith(_SUFFIX))


def text(name: str) -> str:
    """Return the text of a sample. Raises `NotFound`."""
    if name not in names():
        raise NotFound(f"there is no sample {name!r}", remedy=f"the samples are: {', '.join(names())}")
    return (importlib.resources.files("infrakit.cli") / "samples" / f"{name}{_SUFFIX}").read_text()


def _about(document: str) -> str:
    """Return the first comment of a sample."""
    lines = itertools.takewhile(lambda line: line.startswith("# "), document.splitlines())
    return " ".join(line.removeprefix("# ") for line in lines)


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in names() if name.startswith(incomplete)]


@click.command
@arguments.optional("name", shell_complete=_complete)
def sample(name: str | None) -> None:
    """Print a sample declaration, or list the samples.

    Each sample is complete: save it to a file, edit it, and run `infrakit up` with it.

    \b
    Example:
      infrakit sample web > web.yaml
    """
    if name is not None:
        click.echo(text(name), nl=False)
        return
    rows = [(each, _about(text(each))) for each in names()]
    for line in tables.table(("NAME", "DESCRIPTION"), rows):
        click.echo(line)
