"""The running daemon as commands see it: where it listens, one question and its answer, and who asks.

What was, events and versions, can be read while no daemon runs here, too: from what it has left in its home.
"""

import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from infrakit.rpc import discovery
from infrakit.rpc.discovery import NotRunning
from infrakit.spi.errors import NotLeader
from infrakit.spi.event import Event
from infrakit.spi.manager import GroupStatus, Manager, Status, Version
from infrakit.spi.values import GroupID

if TYPE_CHECKING:
    from infrakit.rpc.remotes import Remote

T = TypeVar("T")

USER_VARIABLE = "INFRAKIT_USER"
STORE_VARIABLE = "INFRAKIT_STORE"
LEADERSHIP_VARIABLE = "INFRAKIT_LEADERSHIP"


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
    told = call.events(target(), since=since, group=named, follow=follow)
    try:
        first = next(told, None)
    except NotRunning as silence:
        if follow or not _has_left("events"):
            raise
        _say_what_is_read(silence)
        from infrakit.lifecycle import offline

        yield from offline.events(discovery.home(), since=since or 0, group=group)
        return
    if first is not None:
        yield first
        yield from told


def history(*, limit: int) -> Sequence[Version]:
    """Versions of the declaration, newest first."""
    try:
        return ask(Manager.history, limit=limit)
    except NotRunning as silence:
        store = _store_left(silence)
    from infrakit.lifecycle import offline

    return offline.history(discovery.home(), store, limit=limit)


def show(*, version: int) -> str:
    """The groups declared at a version, as a JSON document."""
    try:
        return ask(Manager.show, version=version)
    except NotRunning as silence:
        store = _store_left(silence)
    from infrakit.lifecycle import offline

    return offline.show(discovery.home(), store, version=version)


def _store_left(silence: NotRunning) -> str:
    """The URL of the store that a daemon here would use. Raises `silence` if there is none yet."""
    store = os.environ.get(STORE_VARIABLE, "")
    if not _has_left("store") and not (store and is_here()):
        raise silence
    _say_what_is_read(silence)
    return store


def _has_left(directory: str) -> bool:
    return is_here() and (discovery.home() / directory).is_dir()


def is_here() -> bool:
    """Whether commands ask the daemon of this home, and not a remote."""
    return target() == discovery.manager_socket()


def _say_what_is_read(silence: NotRunning) -> None:
    print(f"infrakit: {silence.what}; this is what one has left behind", file=sys.stderr)


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
