"""A log from its end: the last lines, however long it is, and then whatever is added."""

import os
import pathlib
import stat

_BLOCK_BYTES = 64 * 1024
_TAIL_BYTES_MAX = 4 * 1024 * 1024  # an answer has an end, also when a line has none
_PART_BYTES_MAX = 1024 * 1024
_END_BYTES = 4096


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


def end(path: pathlib.Path) -> str:
    """The last few kilobytes, in one read that waits for nothing; empty if it cannot be read so.

    It is what the kernel still has in memory, because it was just written. An instance may have put something else in
    the place of its log, a pipe say.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return ""
        return os.pread(descriptor, _END_BYTES, max(0, found.st_size - _END_BYTES)).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
