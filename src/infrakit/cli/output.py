"""Answers for programs: the values exactly as they travel on the wire, as JSON or YAML."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

T = TypeVar("T")


def show(value: T, output: str, people: Callable[[T], None]) -> None:
    """Print `value` in the format asked for; `people` prints it as a table."""
    if output == "table":
        people(value)
    else:
        click.echo(encode(value, output))


def encode(value: Any, output: str) -> str:
    """Indented JSON, or one YAML document that can follow another."""
    body = msgspec.json.encode(value)
    if output == "json":
        return msgspec.json.format(body, indent=2).decode()
    import yaml

    text: str = yaml.safe_dump(msgspec.json.decode(body), sort_keys=False, allow_unicode=True, explicit_start=True)
    return text.rstrip("\n")


def stream(value: Any, output: str) -> str:
    """One of a stream of values: a single line of JSON, or a YAML document."""
    return msgspec.json.encode(value).decode() if output == "json" else encode(value, output)


def lines(text: Sequence[str]) -> None:
    """Print lines for people."""
    for line in text:
        click.echo(line)
