"""The running daemon as commands see it: one question, one answer, and a remedy when nobody is there."""

import contextlib
import os
import pwd
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from infrakit.rpc import discovery
from infrakit.spi.errors import Unreachable
from infrakit.spi.event import Event
from infrakit.spi.manager import Manager, Status
from infrakit.spi.values import GroupID

T = TypeVar("T")

USER_VARIABLE = "INFRAKIT_USER"
START = "start one with `infrakit up FILE`, or point INFRAKIT_HOME to where it keeps its files"


def ask(method: Callable[..., Awaitable[T]], /, **parameters: Any) -> T:
    """Call a method of the daemon's `Manager` and wait for the answer."""
    from infrakit.rpc import call

    with _remedy():
        return call.call(discovery.manager_socket(), method, **parameters)


def status() -> Status:
    """What everybody asks first."""
    return ask(Manager.status)


def events(*, since: int | None, group: str | None, follow: bool) -> Iterator[Event]:
    """The journal after event `since`, and with `follow` whatever is added to it."""
    from infrakit.rpc import call

    with _remedy():
        yield from call.events(
            discovery.manager_socket(), since=since, group=GroupID(group) if group else None, follow=follow
        )


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


@contextlib.contextmanager
def _remedy() -> Iterator[None]:
    try:
        yield
    except Unreachable as error:
        if error.remedy:
            raise
        raise Unreachable(error.what, where=error.where, remedy=START) from None
