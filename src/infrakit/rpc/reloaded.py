"""Values read from files, and reloaded when their content changes.

An invalid file is logged once per change, and the last valid content stays in force.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from infrakit.spi.errors import Refused

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Reloaded(Generic[T]):
    """`value` is the result of `read` from the last valid files. Only the constructor raises the errors of `read`."""

    def __init__(self, files: Sequence[str], read: Callable[[], T]) -> None:
        self._files = files
        self._read = read
        self._seen = self._content()  # before reading, so that the next refresh detects a change in between
        self.value = read()

    def refresh(self) -> None:
        """Reload the files if they have changed. It blocks on disk I/O: do not call it in the event loop."""
        now = self._content()
        if now == self._seen:
            return
        self._seen = now
        named = ", ".join(self._files)
        try:
            self.value = self._read()
        except Refused as error:
            _log.error("%s: the previous content stays in force: %s", named, error)
        else:
            _log.info("%s: reloaded", named)

    def _content(self) -> bytes:
        """Return a hash of content and mode. A time stamp would miss two changes within its resolution."""
        found = hashlib.sha256()
        for each in self._files:
            try:
                found.update(Path(each).read_bytes() + f"{Path(each).stat().st_mode:o}".encode())
            except OSError as error:
                found.update(str(error.errno).encode())
            found.update(b"\0")
        return found.digest()
