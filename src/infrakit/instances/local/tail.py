"""A log from its end: the last lines, however long it is, and then whatever is added."""

import os
import pathlib

_BLOCK_BYTES = 64 * 1024
_TAIL_BYTES_MAX = 4 * 1024 * 1024  # an answer has an end, also when a line has none
_PART_BYTES_MAX = 1024 * 1024


def read(path: pathlib.Path, lines: int) -> tuple[str, int]:
    """The last lines, and the position behind them. Raises `FileNotFoundError`."""
    with path.open("rb") as file:
        start = end = file.seek(0, os.SEEK_END)
        found = b""
        while start > 0 and len(found) < _TAIL_BYTES_MAX and found.count(b"\n") <= lines:
            size = min(_BLOCK_BYTES, start)
            start = file.seek(start - size)
            found = file.read(size) + found
    last = found.splitlines(keepends=True)[-lines:] if lines > 0 else []
    return b"".join(last).decode(errors="replace"), end


def onward(path: pathlib.Path, position: int, *, ended: bool) -> tuple[str, int]:
    """The lines behind a position, and the position behind them. A line that is still being written comes later,
    unless nobody writes any more. Raises `FileNotFoundError`."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < position:
            position = 0  # somebody has truncated it: it begins anew
        file.seek(position)
        found = file.read(_PART_BYTES_MAX)
    if not ended and len(found) < _PART_BYTES_MAX:
        found = found[: found.rfind(b"\n") + 1]
    return found.decode(errors="replace"), position + len(found)
