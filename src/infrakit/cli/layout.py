"""Computes the width of each column of a table: notes are shortened first, names and facts never.

Pure functions: from a table and a width to a table that fits. The live view and the tables of commands share them.
The ellipsis is plain ASCII, because a terminal in the C locale shows nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

CUT = "..."
NOTE_MIN = 8  # a note narrower than this is useless and is left out
_GAPS = (2, 1)  # between columns; the second where the first is too wide


class Fitted(NamedTuple):
    """The layout of a table: the columns that are shown, their widths, and the gap between them."""

    columns: tuple[int, ...]  # indices into the original rows
    widths: tuple[int, ...]
    gap: int

    @property
    def width(self) -> int:
        return sum(self.widths) + self.gap * (len(self.widths) - 1)


def shorten(text: str, size: int) -> str:
    """Shorten the text to at most `size` characters; an ellipsis marks a cut."""
    if len(text) <= size:
        return text
    return text[: max(0, size - len(CUT))].rstrip() + CUT if size > len(CUT) else text[: max(0, size)]


def fit(
    header: Sequence[str], rows: Sequence[Sequence[str]], room: int | None, *, shrink: Sequence[str] = ()
) -> Fitted:
    """Compute the layout for a width of `room` characters; None means unlimited.

    `shrink` names the columns to shorten or omit, in this order: the last column of the table is shortened down to
    `NOTE_MIN`, any other is omitted. If that is not enough, the gaps shrink; the result may still be too wide.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    kept = list(range(len(header)))
    fitted = _fitted(kept, widths, _GAPS[0])
    for title in shrink:
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
