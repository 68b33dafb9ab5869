"""The provider's directory, and the locks that exclude concurrent changes.

    identity              a random text, drawn once, that names this directory
    lock                  held briefly while names are assigned or released
    instances/<id>/       one instance
        instance.json     its record: tags, logical ID, attachments (replaced atomically, never edited in place)
        process.json      its leader, written before the init script may start
        lock              held by its processes while any of them runs
        started           exists once the init script was started
        exit              the exit code of the init script, written by its wrapper
        init, work/, log  the script, its working directory, its output
    graves/<id>/          terminated instances, kept for a day: IDs, so that a token creates only one, and logs
    claims/<name>         one for each logical ID and volume: its holder's ID, locked by the holder's processes
    volumes/<name>/       the data; outlives instances
    trash/                files that are being deleted

Locks are `flock`s: they belong to the open file, which the processes of an instance inherit. So the kernel itself
withholds a logical ID or a volume from a second instance until the last process of the first has terminated, even while
no daemon runs.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import time
import urllib.parse
import uuid
from collections.abc import Iterator

from infrakit.spi import files
from infrakit.spi.errors import Unreachable

_LOCK_ATTEMPTS = 5000  # attempts to acquire the directory's lock, one every 2 ms
_NAME_BYTES_MAX = 200


class Home:
    """The directory of one provider. Every method blocks briefly, and may be called from any thread."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root.resolve()  # one canonical path, because processes are identified by it
        self.instances = self.root / "instances"
        self.dead_logs = self.root / "graves"  # the name on disk is part of the stored format
        self.claims = self.root / "claims"
        self.volumes = self.root / "volumes"
        self.trash = self.root / "trash"
        for each in (self.instances, self.dead_logs, self.claims, self.volumes, self.trash):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    def identity(self) -> str:
        """Return the text that distinguishes this directory from any other; empty if it is missing."""
        if not self.root.is_dir():
            return ""
        with self.locked():
            return files.identity(self.root / "identity")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock out all other threads and processes that assign or release names. Do not wait for anything inside.

        Raises `Unreachable` after 10 s.
        """
        for _ in range(_LOCK_ATTEMPTS):
            with contextlib.suppress(BlockingIOError):
                held = lock(self.root / "lock")
                break
            time.sleep(0.002)
        else:
            raise Unreachable(
                "another process has held the lock for 10 s",
                where=str(self.root / "lock"),
                remedy="find it with `fuser`; if it is stopped (state T), continue or terminate it",
            )
        try:
            yield
        finally:
            os.close(held)

    def instance(self, instance_id: str) -> pathlib.Path:
        """Return the directory of an instance that is not archived."""
        return self.instances / instance_id

    def claim(self, kind: str, name: str) -> pathlib.Path:
        """Return the claim file of a logical ID or a volume."""
        return self.claims / f"{kind}-{file_name(name)}"

    def volume(self, name: str) -> pathlib.Path:
        """Return the data directory of a volume."""
        return self.volumes / file_name(name)

    def discard(self, path: pathlib.Path) -> None:
        """Remove a file or directory atomically, by a rename, then delete its content."""
        trashed = self.trash / uuid.uuid4().hex
        with contextlib.suppress(FileNotFoundError):
            path.rename(trashed)
            remove(trashed)

    def empty_trash(self) -> None:
        """Delete what a crash has left behind in the trash."""
        for each in self.trash.iterdir():
            remove(each)


def remove(path: pathlib.Path) -> None:
    """Delete a file or directory, even if another process deletes it concurrently."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def lock(path: pathlib.Path) -> int:
    """Acquire the exclusive lock of this file and return its descriptor. Raises `BlockingIOError` if it is held.

    The lock is released once every process that has the descriptor has closed it.
    """
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(held)
        raise
    return held


class Locks:
    """Locks that are released together."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def acquire(self, path: pathlib.Path) -> None:
        """Acquire one more lock. Raises `BlockingIOError` if it is held."""
        self.held.append(lock(path))

    def close(self) -> None:
        while self.held:
            os.close(self.held.pop())


def is_locked(path: pathlib.Path) -> bool:
    """Whether a process holds this lock now."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(opened)
    return False


def file_name(name: str) -> str:
    """Encode a name as a valid file name: unique, and readable where possible."""
    quoted = urllib.parse.quote(name, safe="")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _NAME_BYTES_MAX:
        quoted = quoted[:100] + "%" + hashlib.sha256(name.encode()).hexdigest()
    return quoted
