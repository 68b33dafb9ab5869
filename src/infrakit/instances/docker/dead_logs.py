"""Logs of terminated instances: removing a container deletes its log, so its last lines are stored here for a day."""

import contextlib
import os
import re
from pathlib import Path

from infrakit.spi import files
from infrakit.spi.values import InstanceID

LINES = 2000
_AGE_S_MAX = 86_400.0
_LOGS_MAX = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")


class DeadLogs:
    """Stores one log file per instance in one directory. Blocks: call it in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def store(self, instance: InstanceID, text: str, *, now: float) -> None:
        """Store the log of an instance, and delete expired logs."""
        if not _NAME.fullmatch(instance):
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace(self._directory / instance, text.encode())
        os.utime(self._directory / instance, (now, now))
        self._expire(now)

    def read(self, instance: InstanceID, *, lines: int) -> str | None:
        """Return the last lines of the stored log; None if there is none."""
        if not _NAME.fullmatch(instance):
            return None
        try:
            stored = (self._directory / instance).read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return None
        return "".join(stored[-lines:]) if lines > 0 else ""

    def _expire(self, now: float) -> None:
        found: list[tuple[float, Path]] = []
        for each in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process deletes expired logs, too
                found.append((each.stat().st_mtime, each))
        for number, (at, path) in enumerate(sorted(found, reverse=True), start=1):
            if number > _LOGS_MAX or at < now - _AGE_S_MAX:
                path.unlink(missing_ok=True)
