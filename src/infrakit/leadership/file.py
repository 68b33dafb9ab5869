"""Leadership from a file: a path on a shared file system whose content is the name of the leader.

An external process writes it atomically: an operator, or a script beside the quorum. If the file is missing, empty or
contains no valid name, there is no leader; if it cannot be read, the leader is unknown.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult

from infrakit.spi import files
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
        self._reading: Future[bytes] | None = None  # at most one thread, even if the file system hangs

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return url.path.startswith("/") and not url.netloc

    @classmethod
    def from_url(cls, url: SplitResult, *, name: str) -> Self:
        return cls(Path(url.path), name)

    async def observe(self) -> AsyncIterator[Observation]:
        """Poll the file at each interval."""
        while True:
            yield await self._poll()
            await asyncio.sleep(self._interval_s)

    async def _poll(self) -> Observation:
        begun_at = asyncio.get_running_loop().time()

        def observation(*, leader: bool | None, who: str = "", note: str = "") -> Observation:
            return Observation(leader=leader, begun_at=begun_at, valid_s=VALID_S, who=who, note=note)

        if self._reading is not None and not self._reading.done():
            return observation(leader=None, note=f"{self._path} has not been read yet: its file system does not answer")
        self._reading = Future()
        threading.Thread(target=_read, args=(self._path, self._reading), name="leader-file", daemon=True).start()
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                content = await asyncio.shield(asyncio.wrap_future(self._reading))
        except FileNotFoundError:
            return observation(leader=False, note=f"there is no leader: {self._path} does not exist")
        except TimeoutError:
            return observation(leader=None, note=f"{self._path} was not read within {READ_DEADLINE_S:g} s")
        except OSError as error:
            return observation(leader=None, note=f"{self._path} cannot be read: {error.strerror}")
        who = _parse(content)
        if not who:
            return observation(leader=False, note=f"there is no leader: {self._path} contains no name")
        return observation(leader=who == self._name, who=who, note=f"{self._path} names {who} as the leader")


def _read(path: Path, into: Future[bytes]) -> None:
    """Read the file in a daemon thread, which does not delay the exit of the process if the file system hangs."""
    try:
        with path.open("rb") as file:
            into.set_result(file.read(NAME_BYTES_MAX + 3))
    except OSError as error:
        into.set_exception(error)


def _parse(content: bytes) -> str:
    """Parse the name in the file; empty if its content is not a valid name."""
    try:
        name = content.decode().strip()
    except UnicodeDecodeError:
        return ""
    return name if len(name.encode()) <= NAME_BYTES_MAX and name.isprintable() else ""


def write_leader(path: Path, name: str) -> None:
    """Write the name of the leader atomically: a reader gets the old name or the new one."""
    files.replace(path, f"{name}\n".encode(), mode=0o644)
