"""Reads a log from its end: the last lines, however long the log is, and then what is appended."""

import os
import pathlib
import stat

_BLOCK_BYTES = 64 * 1024
_TAIL_BYTES_MAX = 4 * 1024 * 1024  # limits the response when a line never ends
_PART_BYTES_MAX = 1024 * 1024
_END_BYTES = 4096


def read(path: pathlib.Path, lines: int) -> tuple[str, int]:
    """Return the last lines, and the position after them. Raises `FileNotFoundError`."""
    with path.open("rb") as file:
        start = end = file.seek(0, os.SEEK_END)
        found = b""
        while start > 0 and len(found) < _TAIL_BYTES_MAX and found.count(b"\n") <= lines:
            size = min(_BLOCK_BYTES, start)
            start = file.seek(start - size)
            found = file.read(size) + found
    last = found.splitlines(keepends=True)[-lines:] if lines > 0 else []
    return b"".join(last).decode(errors="replace"), end


def read_after(path: pathlib.Path, position: int, *, ended: bool) -> tuple[str, int]:
    """Return the lines after a position, and the position after them. Raises `FileNotFoundError`.

    An incomplete last line is returned only if `ended`, when no process writes to the log any more.
    """
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < position:
            position = 0  # the log was truncated: start from its beginning
        file.seek(position)
        found = file.read(_PART_BYTES_MAX)
    if not ended and len(found) < _PART_BYTES_MAX:
        found = found[: found.rfind(b"\n") + 1]
    return found.decode(errors="replace"), position + len(found)


def end(path: pathlib.Path) -> str:
    """Return the last few kilobytes, in one non-blocking read; empty if the log cannot be read that way.

    The content was just written, so it is in the page cache. An instance may have replaced its log by something else,
    such as a pipe.
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
