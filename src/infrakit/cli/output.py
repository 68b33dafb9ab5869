"""Output for programs: the values of the wire protocol, as JSON or YAML."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

T = TypeVar("T")


def show(value: T, output: str, people: Callable[[T], None]) -> None:
    """Prints `value` in the requested format; `people` prints it as a table."""
    if output == "table":
        people(value)
    else:
        click.echo(encode(value, output))


def encode(value: Any, output: str) -> str:
    """Indented JSON, or one YAML document with a start marker, so that several can be concatenated."""
    body = msgspec.json.encode(value)
    if output == "json":
        return msgspec.json.format(body, indent=2).decode()
    import yaml

    text: str = yaml.safe_dump(msgspec.json.decode(body), sort_keys=False, allow_unicode=True, explicit_start=True)
    return text.rstrip("\n")


def stream(value: Any, output: str) -> str:
    """One value of a stream: a single line of JSON, or a YAML document."""
    return msgspec.json.encode(value).decode() if output == "json" else encode(value, output)


def lines(text: Sequence[str]) -> None:
    """Prints lines for people."""
    for line in text:
        click.echo(line)
