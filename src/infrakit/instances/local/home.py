"""Where the provider keeps everything, and the locks that keep two from doing one thing.

    lock                  held for the moments in which names are given or taken
    instances/<id>/       one instance
        instance.json     what it is: tags, logical ID, attachments (replaced as a whole, never changed)
        process.json      its leader, written before the init script may begin
        lock              held by its processes as long as one of them lives
        started           there once the init script was let go
        exit              the exit code of the init script, written by its wrapper
        init, work/, log  the script, its working directory, its output
    graves/<id>/          what is kept of the dead for a while: names, so that no token makes two, and logs
    claims/<name>         one for each logical ID and volume: its holder's ID, locked by the holder's processes
    volumes/<name>/       the data; outlives instances
    trash/                on its way out

Locks are `flock`s: they belong to the open file, which the processes of an instance inherit, so that the kernel itself
keeps a logical ID or a volume from a second instance until the last process of the first is gone, whether or not a
daemon is alive to see it.
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

from infrakit.spi.errors import Unreachable

_PATIENCE = 5000  # looks at the directory's lock, one every 2 ms
_NAME_BYTES_MAX = 200


class Home:
    """The directory of one provider. Every method is short, blocks, and may be called from any thread."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root.resolve()  # one place, by whatever name it is reached: its processes are known by it
        self.instances = self.root / "instances"
        self.graves = self.root / "graves"
        self.claims = self.root / "claims"
        self.volumes = self.root / "volumes"
        self.trash = self.root / "trash"
        for each in (self.instances, self.graves, self.claims, self.volumes, self.trash):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Alone among all threads and processes that give or take names. Held for moments: no waiting inside."""
        for _ in range(_PATIENCE):
            with contextlib.suppress(BlockingIOError):
                held = lock(self.root / "lock")
                break
            time.sleep(0.002)
        else:
            raise Unreachable(
                "another process has held the lock for 10 s",
                where=str(self.root / "lock"),
                remedy="see which with `fuser`; one that is stopped has to be continued or ended",
            )
        try:
            yield
        finally:
            os.close(held)

    def instance(self, instance_id: str) -> pathlib.Path:
        """The directory of a present instance."""
        return self.instances / instance_id

    def claim(self, kind: str, name: str) -> pathlib.Path:
        """The claim on a logical ID or a volume."""
        return self.claims / f"{kind}-{file_name(name)}"

    def volume(self, name: str) -> pathlib.Path:
        """The data of a volume."""
        return self.volumes / file_name(name)

    def discard(self, path: pathlib.Path) -> None:
        """Make a file or directory disappear at once, and delete it then."""
        doomed = self.trash / uuid.uuid4().hex
        with contextlib.suppress(FileNotFoundError):
            path.rename(doomed)
            remove(doomed)

    def empty_trash(self) -> None:
        """Delete what a crash has left there."""
        for each in self.trash.iterdir():
            remove(each)


def remove(path: pathlib.Path) -> None:
    """Delete whatever is there, also when another process does the same."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def lock(path: pathlib.Path) -> int:
    """Take the lock of this file; closing what is returned, in every process that has it, gives it back.

    Raises `BlockingIOError`.
    """
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(held)
        raise
    return held


class Locks:
    """Locks that are taken together and given back together."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def take(self, path: pathlib.Path) -> None:
        """Raises `BlockingIOError`."""
        self.held.append(lock(path))

    def close(self) -> None:
        while self.held:
            os.close(self.held.pop())


def is_locked(path: pathlib.Path) -> bool:
    """Whether a process holds this lock now."""
    try:
        looked = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(looked, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(looked)
    return False


def write(path: pathlib.Path, content: bytes) -> None:
    """Replace a file as a whole; it survives the loss of power from here on."""
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with new.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: pathlib.Path) -> None:
    """Make the content of a file, or the names in a directory, durable."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def file_name(name: str) -> str:
    """A name that the file system takes, different for different names, and legible where possible."""
    quoted = urllib.parse.quote(name, safe="")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _NAME_BYTES_MAX:
        quoted = quoted[:100] + "%" + hashlib.sha256(name.encode()).hexdigest()
    return quoted
