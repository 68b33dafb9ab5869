"""Leadership as a file tells it: a path on a shared file system that holds the name of who leads.

Somebody else writes it, atomically: an operator, a script beside the quorum. Nothing in it, or nothing that can be a
name, means that nobody leads; a file that cannot be read means nothing at all.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult

from infrakit.spi.leadership import Observation

INTERVAL_S = 0.05
VALID_S = 1.0
READ_DEADLINE_S = 0.5
NAME_BYTES_MAX = 253


class FileObserver:
    """Leads while the file at `path` holds `name`."""

    form = "file:///PATH"

    def __init__(self, path: Path, name: str, *, interval_s: float = INTERVAL_S) -> None:
        self._path = path
        self._name = name
        self._interval_s = interval_s
        self._reading: Future[bytes] | None = None  # on a file system that hangs, it stays the only one

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return url.path.startswith("/") and not url.netloc

    @classmethod
    def from_url(cls, url: SplitResult, *, name: str) -> Self:
        return cls(Path(url.path), name)

    async def observe(self) -> AsyncIterator[Observation]:
        """A look every interval."""
        while True:
            yield await self._look()
            await asyncio.sleep(self._interval_s)

    async def _look(self) -> Observation:
        begun_at = asyncio.get_running_loop().time()

        def seen(*, leader: bool | None, who: str = "", note: str = "") -> Observation:
            return Observation(leader=leader, begun_at=begun_at, valid_s=VALID_S, who=who, note=note)

        if self._reading is not None and not self._reading.done():
            return seen(leader=None, note=f"{self._path} has not been read yet: its file system does not answer")
        self._reading = Future()
        threading.Thread(target=_read, args=(self._path, self._reading), name="leader-file", daemon=True).start()
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                content = await asyncio.shield(asyncio.wrap_future(self._reading))
        except FileNotFoundError:
            return seen(leader=False, note=f"nobody leads: {self._path} does not exist")
        except TimeoutError:
            return seen(leader=None, note=f"{self._path} was not read within {READ_DEADLINE_S:g} s")
        except OSError as error:
            return seen(leader=None, note=f"{self._path} cannot be read: {error.strerror}")
        who = _parse(content)
        if not who:
            return seen(leader=False, note=f"nobody leads: {self._path} holds no name")
        return seen(leader=who == self._name, who=who, note=f"{self._path} says that {who} leads")


def _read(path: Path, into: Future[bytes]) -> None:
    """In a thread that ends with the process, whatever the file system does."""
    try:
        with path.open("rb") as file:
            into.set_result(file.read(NAME_BYTES_MAX + 3))
    except OSError as error:
        into.set_exception(error)


def _parse(content: bytes) -> str:
    """The name, or nothing where it can be none."""
    try:
        name = content.decode().strip()
    except UnicodeDecodeError:
        return ""
    return name if len(name.encode()) <= NAME_BYTES_MAX and name.isprintable() else ""


def write_leader(path: Path, name: str) -> None:
    """Say who leads, in one step: a reader sees the old name or the new one."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with temporary.open("w") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
