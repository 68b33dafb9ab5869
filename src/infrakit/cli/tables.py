"""Text for people: aligned columns, ages, and colours on a terminal.

On a terminal, notes are shortened to the width of the window, and sentences are wrapped. Elsewhere every row is one
line and nothing is shortened, so that `grep` and `cut` find complete sentences.
"""

import datetime
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from infrakit.cli import layout

_WRAP_MIN = 24  # with less room than this, the last column goes below its row
_BELOW = " " * 6


class Cell(NamedTuple):
    """A cell of a table: its text, and a colour that does not count towards its width."""

    text: str
    colour: str = ""


def is_terminal() -> bool:
    """Whether standard output is a terminal that supports control sequences."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def has_rich() -> bool:
    """Whether the extra `pretty` is installed; does not import it."""
    import importlib.util

    return importlib.util.find_spec("rich") is not None


def colours() -> bool:
    """Whether to print colours: only on a terminal, and not if NO_COLOR is set (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR")


def width(*, err: bool = False) -> int | None:
    """Return the columns of the terminal behind the stream; None if it is no terminal: lines are not wrapped."""
    stream = sys.stderr if err else sys.stdout
    if stream is None or not stream.isatty():
        return None
    set_by_user = os.environ.get("COLUMNS", "")
    return int(set_by_user) if set_by_user.isdecimal() else os.get_terminal_size(stream.fileno()).columns or 80


def paint(text: str, colour: str = "", *, bold: bool = False) -> str:
    """Colour the text, if colours are enabled."""
    if not colours() or not (colour or bold):
        return text
    return click.style(text, fg=colour or None, bold=bold or None)


def clean(text: str) -> str:
    """Remove line breaks and control sequences: output of an instance must not control the user's terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in click.unstyle(text)).strip()


def age(seconds: float | None) -> str:
    """Format an age in seconds: 192.4 -> `3m12s`, two units at most."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    for unit_s, unit, rest_s, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit_s:
            return f"{whole // unit_s}{unit}{whole % unit_s // rest_s:02}{rest}"
    return f"{whole}s"


def count(number: int, noun: str) -> str:
    """Format a number with its noun: `1 instance`, `2 instances`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def between(start: str, end: str) -> str:
    """Format the age of the time `start` at the time `end`, both ISO 8601."""
    try:
        return age((datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)).total_seconds())
    except (ValueError, TypeError):
        return "-"


def table(header: Sequence[str], rows: Sequence[Sequence[str | Cell]], *, shrink: Sequence[str] = ()) -> Iterator[str]:
    """Yield the header and the rows, with aligned columns; the last column may be long.

    On a terminal that is too narrow, the columns in `shrink` are shortened or omitted first, see `layout.fit`.
    """
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    cells = [[cell._replace(text=clean(cell.text)) for cell in row] for row in cells]
    texts = [[cell.text for cell in row] for row in cells]
    fitted = layout.fit(header, texts, width() if shrink else None, shrink=shrink)
    gap = " " * fitted.gap
    columns = list(zip(fitted.columns, fitted.widths, strict=True))
    yield paint(gap.join(header[column].ljust(size) for column, size in columns).rstrip(), bold=True)
    *others, (last, last_size) = columns
    indent = fitted.width - last_size
    for row in cells:
        start = "".join(paint(row[column].text.ljust(size), row[column].colour) + gap for column, size in others)
        text, colour = row[last]
        if shrink:
            text = layout.shorten(text, last_size)
        yield from _with_last(start, text, colour, indent)


def _with_last(start: str, text: str, colour: str, indent: int) -> Iterator[str]:
    """Yield a row with its last column, which is wrapped, or put below the row if there is too little room."""
    room = width()
    if room is not None and room - indent < min(len(text), _WRAP_MIN):
        yield start.rstrip()
        yield from paragraph(text, indent=_BELOW)
        return
    first, *rest = _wrapped(text, indent, width())
    yield (start + paint(first, colour)).rstrip()
    yield from (" " * indent + paint(line, colour) for line in rest)


def paragraph(text: str, *, indent: str = "", hanging: str | None = None, err: bool = False) -> Iterator[str]:
    """Yield a sentence, wrapped on a terminal; `hanging` begins lines after the first. `err`: for standard error."""
    hanging = indent if hanging is None else hanging
    first, *rest = _wrapped(clean(text), max(len(indent), len(hanging)), width(err=err))
    yield indent + first
    yield from (hanging + line for line in rest)


def _wrapped(text: str, indent: int, columns: int | None) -> list[str]:
    """Wrap to lines that fit beside the indent; a path or a command is not broken at its hyphens."""
    if columns is None:
        return [text]
    return textwrap.wrap(text, max(columns - indent, _WRAP_MIN), break_on_hyphens=False) or [""]
