"""Who calls: the user of a unix socket as the kernel tells, set for each request before its method runs."""

import contextvars
import os
import pwd
import socket
import struct
from typing import NamedTuple


class Caller(NamedTuple):
    """An authenticated name, and what vouches for it: `unix user`, `certificate`, `token`; nobody knows without."""

    name: str = ""
    by: str = ""
    is_self: bool = False  # the user that we run as: whoever may do that may claim any name

    def __str__(self) -> str:
        return f"{self.by} {self.name}" if self.name else "anonymous"

    def signed(self, claimed: str) -> str:
        """The name to record for one that claims to be `claimed`."""
        if self.is_self or claimed == self.name:
            return claimed or self.name
        mark = f" ({self})"  # once, though it came by way of another replica
        return f"{claimed.removesuffix(mark)}{mark}" if claimed else str(self)


_OURSELVES = Caller(is_self=True)
_current: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller", default=_OURSELVES)


def current() -> Caller:
    """Who calls now; ourselves where no request is under way."""
    return _current.get()


def enter(caller: Caller) -> None:
    """From here on, in this task, it is this caller."""
    _current.set(caller)


def of_unix(connection: socket.socket) -> Caller:
    """The user at the other end of a unix socket (socket(7), SO_PEERCRED)."""
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Caller(user(uid), "unix user", is_self=uid == os.getuid())


def user(uid: int) -> str:
    """A user's name, or the number of one that has none, as in a container."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
