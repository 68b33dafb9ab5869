"""What files say, read again when their content changes. A broken one is told once, and what it said before stays."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from infrakit.spi.errors import Refused

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Reloaded(Generic[T]):
    """`value` is what `read` made of the files when they were last right. Raises what `read` raises, at first only."""

    def __init__(self, files: Sequence[str], read: Callable[[], T]) -> None:
        self._files = files
        self._read = read
        self._seen = self._content()  # before it is read: a change in between is seen the next time
        self.value = read()

    def refresh(self) -> None:
        """Look at the files. It takes as long as the disk does: not for the event loop."""
        now = self._content()
        if now == self._seen:
            return
        self._seen = now
        named = ", ".join(self._files)
        try:
            self.value = self._read()
        except Refused as error:
            _log.error("%s: what was read before stays in force: %s", named, error)
        else:
            _log.info("%s: read again", named)

    def _content(self) -> bytes:
        """Content and mode. A time stamp would miss two changes within its grain."""
        found = hashlib.sha256()
        for each in self._files:
            try:
                found.update(Path(each).read_bytes() + f"{Path(each).stat().st_mode:o}".encode())
            except OSError as error:
                found.update(str(error.errno).encode())
            found.update(b"\0")
        return found.digest()
