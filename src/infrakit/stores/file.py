"""A store of files: each revision is a file, and a new one appears complete or not at all.

A revision is written to a temporary file, synced, and linked to its final name, which fails if it exists: the link is
the compare-and-swap, between processes too. Writers also hold a lock, one at a time, so that a slow one cannot link a
number that others have used and pruned as a revision. The directory is synced before the write is acknowledged. A torn
write can therefore never have a revision's name. A newest file that does not match its checksum was damaged by the
disk, and the store refuses to read: it must not return an older revision as the newest, because later writes were
acknowledged. A damaged older revision is omitted from the history; the others remain readable.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult

from infrakit.spi import errors, files
from infrakit.spi.store import Document

BODY_BYTES_MAX = 64 * 1024 * 1024
KEEP = 16  # revisions of a document that `keep` does not name
WATCH_INTERVAL_S = 0.2
LOCK_TIMEOUT_S = 10.0  # a write takes milliseconds; a lock held for longer belongs to a stopped process
_MAGIC = b"infrakit-store-1 "


class FileStore:
    """Stores documents below `directory`, which is created with mode 0700; files have mode 0600."""

    form = "file:///DIR"

    def __init__(self, directory: Path, *, keep: Mapping[str, int] | None = None) -> None:
        self._directory = directory
        self._keep = dict(keep or {})

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return url.path.startswith("/") and not url.netloc

    @classmethod
    def from_url(cls, url: SplitResult, *, keep: Mapping[str, int]) -> Self:
        return cls(Path(url.path), keep=keep)

    async def read(self, *, name: str) -> Document:
        return await asyncio.to_thread(self._read, name)

    async def newest(self, *, name: str) -> int:
        return await asyncio.to_thread(self._newest, name)

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        return await asyncio.to_thread(lambda: (self._read(name), self._newest(head)))

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if len(body) > BODY_BYTES_MAX:
            raise errors.Refused(f"{name} has {len(body)} bytes, the limit is {BODY_BYTES_MAX}", where="store")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOCK_TIMEOUT_S
        while True:
            try:
                # If the caller is cancelled, the write still completes or fails as a whole; the outcome is unknown.
                return await asyncio.shield(asyncio.to_thread(self._replace, name, body, expected))
            except BlockingIOError:
                if loop.time() > deadline:
                    lock = self._folder(name) / ".lock"
                    raise errors.Unreachable(
                        f"another process has held {lock} for {LOCK_TIMEOUT_S:g} s",
                        where="store",
                        remedy="find that process (fuser shows its PID) and check whether it is stopped",
                    ) from None
                await asyncio.sleep(0.005)

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        return await asyncio.to_thread(self._history, name, limit)

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        seen: int | None = None
        while True:
            newest = await asyncio.to_thread(self._newest, name)
            if newest != seen:
                seen = newest
                yield newest
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def close(self) -> None:
        """Do nothing: no file stays open."""

    # -- blocking, in a thread -------------------------------------------------------------------------------------

    def _folder(self, name: str) -> Path:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise errors.Refused(f"{name!r} is not a valid document name", where="store")
        return self._directory / name

    def _revisions(self, name: str) -> list[int]:
        folder = self._folder(name)
        try:
            return [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise errors.Unreachable(f"{folder} cannot be read: {error.strerror}", where="store") from None

    def _newest(self, name: str) -> int:
        return max(self._revisions(name), default=0)

    def _read(self, name: str) -> Document:
        for _attempt in range(5):
            newest = self._newest(name)
            if newest == 0:
                return Document(name=name, revision=0, body=b"")
            with contextlib.suppress(FileNotFoundError):  # pruned after the directory was listed: list again
                return self._load(name, newest)
        raise errors.Unreachable(f"{name} changes faster than it can be read", where="store")

    def _load(self, name: str, revision: int) -> Document:
        path = self._folder(name) / f"{revision:010}"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise errors.Unreachable(f"{path} cannot be read: {error.strerror}", where="store") from None
        header, _, body = content.partition(b"\n")
        if header != _MAGIC + hashlib.sha256(body).hexdigest().encode():
            raise errors.Refused(
                f"{path} is damaged: its content does not match its checksum",
                where="store",
                remedy=f"restore it from a backup, or, to go back to revision {revision - 1} knowingly, move it away",
            )
        return Document(name=name, revision=revision, body=body)

    def _replace(self, name: str, body: bytes, expected: int) -> int:
        """Write the next revision. Raises `BlockingIOError` while another writer holds the lock."""
        folder = self._folder(name)
        try:
            _make_directory(folder)
            with _write_lock(folder):
                newest = self._newest(name)
                if newest != expected:
                    raise errors.Conflict(f"{name} is at revision {newest}, not {expected}", where="store")
                self._write(folder, body, expected + 1)
                self._prune(name, expected + 1)
        except BlockingIOError:
            raise
        except OSError as error:
            raise errors.Unreachable(
                f"{folder} cannot be written: {error.strerror}", where="store", remedy="check space and permissions"
            ) from None
        return expected + 1

    def _write(self, folder: Path, body: bytes, revision: int) -> None:
        for leftover in folder.glob(".new-*"):  # of writers that were killed while they held the lock
            leftover.unlink(missing_ok=True)
        temporary = folder / f".new-{os.getpid()}-{revision}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, folder / f"{revision:010}")
        except FileExistsError:
            raise errors.Conflict(f"{folder.name} has revision {revision} already", where="store") from None
        finally:
            with contextlib.suppress(OSError):  # the next writer removes it
                temporary.unlink()
        try:
            files.sync(folder)
        except OSError as error:
            raise errors.OutcomeUnknown(
                f"{folder} cannot be synced ({error.strerror}): revision {revision} may be lost in a power failure",
                where="store",
                remedy="check the disk",
            ) from None

    def _prune(self, name: str, newest: int) -> None:
        """Remove the oldest revisions. Errors are ignored, because the write itself has succeeded."""
        keep = self._keep.get(name, KEEP)
        with contextlib.suppress(OSError):
            for entry in self._folder(name).iterdir():
                if entry.name.isdigit() and int(entry.name) <= newest - keep:
                    entry.unlink(missing_ok=True)

    def _history(self, name: str, limit: int) -> list[Document]:
        documents = []
        newest_first = sorted(self._revisions(name), reverse=True)
        for revision in newest_first[:limit]:
            try:
                documents.append(self._load(name, revision))
            except FileNotFoundError:  # pruned since it was listed
                continue
            except errors.Refused:
                if revision == newest_first[0]:
                    raise
        return documents


@contextlib.contextmanager
def _write_lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # for one write; released when the process exits
        yield
    finally:
        os.close(descriptor)


def _make_directory(folder: Path) -> None:
    if not folder.is_dir():
        _make_directory(folder.parent)  # one by one: `parents=True` would make them world-readable
        folder.mkdir(mode=0o700, exist_ok=True)
        files.sync(folder.parent)
