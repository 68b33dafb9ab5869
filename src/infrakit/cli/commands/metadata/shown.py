"""Formats values of the metadata tree for people, and completes paths for shells."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from infrakit.cli import facts, tables
from infrakit.spi import paths
from infrakit.spi.errors import InfraKitError
from infrakit.spi.metadata import Metadata


def text(value: Any) -> str:
    """Format the value as `cat` prints it: a string without quotes, everything else as JSON."""
    if isinstance(value, str):
        return value
    body = msgspec.json.encode(value)
    return (msgspec.json.format(body, indent=2) if isinstance(value, dict | list) else body).decode()


def line(value: Any) -> str:
    """Format the value in one line: a string without quotes, everything else as compact JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def kind(value: Any) -> str:
    """Return the type of a value; for a branch, the number of its entries."""
    match value:
        case dict():
            return tables.count(len(value), "name")
        case list():
            return tables.count(len(value), "element")
        case bool():
            return "true or false"
        case str():
            return "text"
        case None:
            return "nothing"
    return "number"


def branches(value: Any, indent: str = "") -> Iterator[str]:
    """Yield the lines of a tree, one per name."""
    below = paths.keys(value) or []
    for step in below:
        last = step == below[-1]
        each = paths.find(value, (step,)) if isinstance(value, list) else value[step]
        shown = "" if isinstance(each, dict | list) and each else f": {tables.clean(line(each))}"
        yield f"{indent}{'└── ' if last else '├── '}{step}{shown}"
        yield from branches(each, indent + ("    " if last else "│   "))


def parse(text: str, *, as_text: bool) -> msgspec.Raw:
    """Parse a command line argument: JSON if it is valid JSON, otherwise text."""
    if not as_text:
        try:
            msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            pass
        else:
            return msgspec.Raw(text.encode())
    return msgspec.Raw(msgspec.json.encode(text))


def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete a path; of a single match also return the children, so that the shell does not consider it complete."""
    before, slash, _ = incomplete.rpartition("/")
    try:
        found = [f"{before}{slash}{step}" for step in facts.ask(Metadata.keys, path=before) or ()]
        found = [path for path in found if path.startswith(incomplete)]
        if len(found) == 1:
            found += [f"{found[0]}/{step}" for step in facts.ask(Metadata.keys, path=found[0]) or ()]
    except InfraKitError:
        return []
    return found
