"""The running daemon as commands see it: where it listens, one question and its answer, and who asks."""

import os
import pwd
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from infrakit.rpc import discovery
from infrakit.spi.errors import NotLeader
from infrakit.spi.event import Event
from infrakit.spi.manager import GroupStatus, Manager, Status
from infrakit.spi.values import GroupID

if TYPE_CHECKING:
    from infrakit.rpc.remotes import Remote

T = TypeVar("T")

USER_VARIABLE = "INFRAKIT_USER"


def ask(method: Callable[..., Awaitable[T]], /, **parameters: Any) -> T:
    """Call a method of the daemon's `Manager` and wait for the answer."""
    from infrakit.rpc import call

    return call.call(target(), method, **parameters)


def target() -> "Path | Remote":
    """Where the daemon listens: here, or at the remote that was chosen."""
    from infrakit.rpc import remotes

    return remotes.current() or discovery.manager_socket()


def status() -> Status:
    """What everybody asks first."""
    return ask(Manager.status)


def groups(value: Status) -> tuple[GroupStatus, ...]:
    """Its groups. Raises `NotLeader` if it could not tell them."""
    if value.note and not value.groups:
        raise NotLeader(f"{value.replica} cannot tell the groups: {value.note}", remedy="see: infrakit leader")
    return value.groups


def events(*, since: int | None, group: str | None, follow: bool) -> Iterator[Event]:
    """The journal after event `since` (None: from now on), and with `follow` whatever is added to it."""
    from infrakit.rpc import call

    named = GroupID(group) if group else None
    return call.events(target(), since=since, group=named, follow=follow)


def who() -> str:
    """Who gives the order, as history will show it: `$INFRAKIT_USER`, or the unix user at this host."""
    named = os.environ.get(USER_VARIABLE)
    if named:
        return named
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"
