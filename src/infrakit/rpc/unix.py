"""Unix sockets bound by hand: for their owner only, a stale one (nobody answers) replaced, a live one never stolen."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from infrakit.rpc import discovery
from infrakit.spi import errors

BACKLOG = 1024  # connections not yet taken up; the kernel turns away more at once, which looks like no daemon


def bind(path: Path) -> socket.socket:
    """A listening socket with mode 0600 in a directory with mode 0700. Raises `Refused` if somebody listens there."""
    discovery.check_length(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone_in(path.parent):
        _make_room(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            bound.bind(str(path))
            bound.listen(BACKLOG)  # at once, because a socket that does not listen looks stale to others
        except OSError as error:
            bound.close()
            raise errors.Refused(f"{path.absolute()} cannot be bound: {error.strerror}") from None
        finally:
            os.umask(before)
    bound.setblocking(False)
    return bound


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Two that start at the same time must not both find a stale socket: the later would replace the live one."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_room(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket() and not path.is_symlink():
        raise errors.Refused(f"{path.absolute()} is in the way: it is no socket", remedy="move it elsewhere")
    if _answers(path):
        raise errors.Refused(
            f"another process listens at {path.absolute()}",
            remedy="end it first (infrakit plugin stop, or infrakit down), or use another INFRAKIT_HOME",
        )
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it is there and does not answer now: not ours to take
        return True
