"""The authenticated caller of the current request, set before its method runs.

At a unix socket it is the user that the kernel reports, on TCP the name of a certificate or token.
"""

import contextvars
import os
import pwd
import socket
import struct
from typing import NamedTuple


class Caller(NamedTuple):
    """An authenticated name, and how: by `unix user`, `certificate` or `token`. Both are empty if anonymous."""

    name: str = ""
    by: str = ""
    is_self: bool = False  # the user of this process, which may claim any name

    def __str__(self) -> str:
        return f"{self.by} {self.name}" if self.name else "anonymous"

    def signed(self, claimed: str) -> str:
        """Return the name to record for a caller that claims to be `claimed`."""
        if self.is_self or claimed == self.name:
            return claimed or self.name
        suffix = f" ({self})"  # not repeated if another replica has forwarded the call
        return f"{claimed.removesuffix(suffix)}{suffix}" if claimed else str(self)


_THIS_PROCESS = Caller(is_self=True)
_current: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller", default=_THIS_PROCESS)


def current() -> Caller:
    """Return the caller of the current request; outside of requests, this process itself."""
    return _current.get()


def enter(caller: Caller) -> None:
    """Set the caller for the rest of this task."""
    _current.set(caller)


def of_unix(connection: socket.socket) -> Caller:
    """Return the user at the other end of a unix socket (socket(7), SO_PEERCRED)."""
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Caller(user(uid), "unix user", is_self=uid == os.getuid())


def user(uid: int) -> str:
    """Return a user's name; without one, as in a container, the user ID."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
