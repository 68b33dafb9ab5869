"""How wide each column of a table may be: notes shrink first, names and facts never.

Pure: a table and a number of columns in, a table that fits out. The live view and the tables of commands share it.
The sign of a cut is plain ASCII, because a terminal of the locale C shows nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

CUT = "..."
NOTE_MIN = 8  # a note with less room than this says nothing and is left out
_GAPS = (2, 1)  # between columns; the second where the first is too wide


class Fitted(NamedTuple):
    """A table after the cut: which columns remain, how wide each is, and how far apart they stand."""

    columns: tuple[int, ...]  # indices into the original rows
    widths: tuple[int, ...]
    gap: int

    @property
    def width(self) -> int:
        return sum(self.widths) + self.gap * (len(self.widths) - 1)


def shorten(text: str, size: int) -> str:
    """At most `size` characters, with a sign where something is missing."""
    if len(text) <= size:
        return text
    return text[: max(0, size - len(CUT))].rstrip() + CUT if size > len(CUT) else text[: max(0, size)]


def fit(header: Sequence[str], rows: Sequence[Sequence[str]], room: int | None, *, gives: Sequence[str] = ()) -> Fitted:
    """Columns for `room` characters; None is without limit.

    `gives` names the columns that give way, in this order: the last column of the table is cut as far as `NOTE_MIN`,
    any other is left out. Where that is not enough, the gaps shrink, and the result may still be too wide.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    kept = list(range(len(header)))
    fitted = _fitted(kept, widths, _GAPS[0])
    for title in gives:
        if room is None or fitted.width <= room:
            return fitted
        column = header.index(title)
        left = room - (fitted.width - widths[column])
        if column == len(header) - 1 and left >= NOTE_MIN:
            widths[column] = left
        else:
            kept.remove(column)
        fitted = _fitted(kept, widths, _GAPS[0])
    return fitted if room is None or fitted.width <= room else _fitted(kept, widths, _GAPS[1])


def _fitted(kept: Sequence[int], widths: Sequence[int], gap: int) -> Fitted:
    return Fitted(tuple(kept), tuple(widths[column] for column in kept), gap)
