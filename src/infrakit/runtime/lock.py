"""The lock of a state directory: only one daemon may use it; a second one is refused, and the error names the first.

The kernel releases the lock when the process that holds it terminates, however that happens. The descriptor is not
inherited, so instances that keep running after the daemon do not keep its directory locked.
"""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from infrakit.spi import errors, files
from infrakit.spi.event import to_the_second


class InUse(errors.Refused):
    """Another process has the lock."""

    pid: int | None = None  # of that process, if known


class StateLock:
    """A context manager around everything that must exist once for `directory`."""

    def __init__(self, directory: Path, *, started: str = "") -> None:
        self._path = directory / "lock"
        self._started = started
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            refused = InUse(
                f"{self._path.parent.absolute()} is in use by {_holder(content)}",
                remedy="use that daemon (infrakit commit FILE, infrakit status), "
                "stop it (a TERM signal; its instances keep running), or set INFRAKIT_HOME to another directory",
            )
            refused.pid = _pid(content)
            raise refused from None
        own = json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "started": self._started})
        with files.named(self._path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, own.encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _pid(content: bytes) -> int | None:
    try:
        return int(json.loads(content)["pid"])
    except (ValueError, KeyError, TypeError):
        return None


def _holder(content: bytes) -> str:
    try:
        holder = json.loads(content)
        started = to_the_second(holder["started"]) or "just now"
        return f"the daemon with pid {holder['pid']} on {holder['host']}, started {started}"
    except (ValueError, KeyError, TypeError):
        return "another daemon that has just started"
