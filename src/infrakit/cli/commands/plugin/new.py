"""`infrakit plugin new`: writes the skeleton of a plugin, which works and has tests."""

import re
from pathlib import Path
from string import Template

import click

from infrakit.cli import arguments
from infrakit.spi.errors import Refused

GROUPS = {"instance": "instances", "flavor": "flavors", "metadata": "metadata"}


@click.command
@arguments.required("name")
@click.option("--kind", type=click.Choice(list(GROUPS)), required=True, help="Kind of the plugin.")
@click.option("--directory", type=click.Path(path_type=Path), help="Target directory; default: ./NAME.")
def new(name: str, kind: str, directory: Path | None) -> None:
    """Write a Python package with a working plugin and its tests.

    \b
    Example:
      infrakit plugin new shelf --kind instance
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", name):
        raise click.BadParameter(
            f"{name!r} is not a valid name: lower-case letters, digits and '-', beginning with a letter."
        )
    place = directory or Path(name)
    if place.exists() and any(place.iterdir()):
        raise Refused(f"{place} is not empty", remedy="pass another --directory")
    place.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    words = {
        "name": name,
        "kind": kind,
        "group": GROUPS[kind],
        "project": f"infrakit-{name}",
        "module": module,
        "class_": "".join(part.capitalize() for part in name.split("-")),
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{module}.py": f"{kind}.py",
        f"test_{module}.py": f"test_{kind}.py",
    }
    import importlib.resources

    skeletons = importlib.resources.files("infrakit.cli") / "skeletons"
    for file, skeleton in files.items():
        text = (skeletons / f"{skeleton}.txt").read_text()
        (place / file).write_text(Template(text).substitute(words))
        click.echo(place / file)
    click.echo(f"\nNext: python -m pip install -e {place} pytest && pytest {place}")
