"""The last words of the dead: a container takes its log with it, so the end of it is kept here for a day."""

import contextlib
import os
import re
import secrets
from pathlib import Path

from infrakit.spi.values import InstanceID

LINES = 2000
_AGE_S_MAX = 86_400.0
_GRAVES_MAX = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")


class Graves:
    """Files in one directory. Blocks: call it in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, instance: InstanceID, text: str, *, now: float) -> None:
        """Replace what was kept of it, and forget what is old."""
        if not _NAME.fullmatch(instance):
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._directory / f".{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_text(text)
        os.utime(draft, (now, now))
        draft.rename(self._directory / instance)
        self._forget(now)

    def read(self, instance: InstanceID, *, lines: int) -> str | None:
        """The last lines; None: nothing is kept."""
        if not _NAME.fullmatch(instance):
            return None
        try:
            kept = (self._directory / instance).read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return None
        return "".join(kept[-lines:]) if lines > 0 else ""

    def _forget(self, now: float) -> None:
        found: list[tuple[float, Path]] = []
        for each in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process forgets, too
                found.append((each.stat().st_mtime, each))
        for number, (at, path) in enumerate(sorted(found, reverse=True), start=1):
            if number > _GRAVES_MAX or at < now - _AGE_S_MAX:
                path.unlink(missing_ok=True)
