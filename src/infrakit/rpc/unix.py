"""Binds unix sockets: for their owner only. A stale socket (without a listener) is replaced, a live one never is."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from infrakit.rpc import discovery
from infrakit.spi import errors

BACKLOG = 1024  # connections not yet accepted; the kernel refuses more at once, as if no daemon ran


def bind(path: Path) -> socket.socket:
    """Bind a socket with mode 0600 in a directory with mode 0700. Raises `Refused` if another process listens there."""
    discovery.check_length(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.parent):
        _remove_stale(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            bound.bind(str(path))
            bound.listen(BACKLOG)  # at once, because a socket without a listener counts as stale
        except OSError as error:
            bound.close()
            raise errors.Refused(f"{path.absolute()} cannot be bound: {error.strerror}") from None
        finally:
            os.umask(before)
    bound.setblocking(False)
    return bound


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the directory. In a race of two starts, the later would otherwise replace the live socket of the first."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket() and not path.is_symlink():
        raise errors.Refused(f"{path.absolute()} exists and is not a socket", remedy="move it elsewhere")
    if _answers(path):
        raise errors.Refused(
            f"another process listens at {path.absolute()}",
            remedy="stop it first (infrakit plugin stop; a daemon: a TERM signal), or use another INFRAKIT_HOME",
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
            return True  # it exists but does not answer now: do not replace it
        return True
