"""Output for programs: the values of the wire protocol, as JSON or YAML."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

T = TypeVar("T")


def show(value: T, output: str, print_table: Callable[[T], None]) -> None:
    """Print `value` in the requested format; `print_table` prints it as a table."""
    if output == "table":
        print_table(value)
    else:
        click.echo(encode(value, output))


def encode(value: Any, output: str) -> str:
    """Encode as indented JSON, or as one YAML document with a start marker, so that several can be concatenated."""
    body = msgspec.json.encode(value)
    if output == "json":
        return msgspec.json.format(body, indent=2).decode()
    import yaml

    text: str = yaml.safe_dump(msgspec.json.decode(body), sort_keys=False, allow_unicode=True, explicit_start=True)
    return text.rstrip("\n")


def stream(value: Any, output: str) -> str:
    """Encode one value of a stream: a single line of JSON, or a YAML document."""
    return msgspec.json.encode(value).decode() if output == "json" else encode(value, output)


def lines(text: Sequence[str]) -> None:
    """Print lines for people."""
    for line in text:
        click.echo(line)
