"""Files that are replaced as a whole: a reader gets the old content or the new one, never a part of it."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Name the file in every `OSError`: a failed write names none, and that of a temporary file names another."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file atomically and durably: after a power failure it has this content.

    Raises `OSError`; then the file has its old content, or the new one if only its directory could not be flushed.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with named(path):
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync(path.parent)


def identity(path: Path) -> str:
    """Return the random text in a file; draw it if there is no such file. The caller excludes other processes."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        drawn = secrets.token_hex(16)
        replace(path, drawn.encode())
        return drawn


def sync(path: Path) -> None:
    """Flush the content of a file, or the entries of a directory, to disk."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
