"""Parses numbers and durations of the command line, within what the daemon and the system can represent."""

import re
from typing import Any

import click

from infrakit.spi.group import DURATION_PATTERN, seconds

WHOLE_MAX = 2**63 - 1  # JSON integers beyond 64 bits cannot be encoded
DURATION_MAX_S = 10 * 366 * 86400.0  # longer ones overflow timers and dates


class Whole(click.IntRange):
    """A whole number of at least `min`. The upper limit is that of the codec; the help does not show it."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number: int = super().convert(value, param, ctx)
        if number > WHOLE_MAX:
            self.fail(f"{number} is greater than {WHOLE_MAX}.", param, ctx)
        return number


def whole(least: int) -> Whole:
    """Return the click type of a whole number of at least `least`."""
    return Whole(min=least)


def duration(text: str) -> float:
    """Parse a duration in seconds, in the notation of the declaration (`1m30s`); a bare number means seconds."""
    if re.fullmatch(DURATION_PATTERN, text):
        value = seconds(text)
    elif re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        value = float(text)
    else:
        raise click.BadParameter(f"{text!r} is not a duration such as 90s or 1m30s.")
    if value > DURATION_MAX_S:
        raise click.BadParameter("a duration is ten years at most.")
    return value
