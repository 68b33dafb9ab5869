"""The commands' client of the running daemon: its address, calls to its methods, and the identity of the caller.

Events and versions can be read without a running daemon, too: from the files in INFRAKIT_HOME.
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
    """Call a method of the daemon's `Manager` and waits for the response."""
    from infrakit.rpc import call

    return call.call(target(), method, **parameters)


def change(method: Callable[..., Awaitable[T]], /, *, why: str, **parameters: Any) -> T:
    """Call a changing method, with the caller's identity and reason for the history."""
    return ask(method, who=who(), why=why, **parameters)


def target() -> "Path | Remote":
    """Return the address of the daemon: the local socket, or the selected remote."""
    from infrakit.rpc import remotes

    return remotes.current() or discovery.manager_socket()


def status() -> Status:
    """Return the status of the daemon and of its groups."""
    return ask(Manager.status)


def groups(value: Status) -> tuple[GroupStatus, ...]:
    """Return the groups of a status. Raises `NotLeader` if the replica that answered does not have them."""
    if value.note and not value.groups:
        raise NotLeader(f"{value.replica} cannot list the groups: {value.note}", remedy="see: infrakit leader")
    return value.groups


def events(*, since: int | None, group: str | None, follow: bool) -> Iterator[Event]:
    """Yield the journal after event `since` (None: from now on); with `follow`, also new events when recorded."""
    from infrakit.rpc import call

    named = GroupID(group) if group else None
    received = call.events(target(), since=since, group=named, follow=follow)
    try:
        first = next(received, None)
    except NotRunning as not_running:
        if follow or not _exists_offline("events"):
            raise
        _warn_offline(not_running)
        from infrakit.lifecycle import offline

        yield from offline.events(discovery.home(), since=since or 0, group=group)
        return
    if first is not None:
        yield first
        yield from received


def history(*, limit: int) -> Sequence[Version]:
    """Return the versions of the declaration, newest first."""
    try:
        return ask(Manager.history, limit=limit)
    except NotRunning as not_running:
        store = _offline_store(not_running)
    from infrakit.lifecycle import offline

    return offline.history(discovery.home(), store, limit=limit)


def show(*, version: int) -> str:
    """Return the groups declared at a version, as a JSON document."""
    try:
        return ask(Manager.show, version=version)
    except NotRunning as not_running:
        store = _offline_store(not_running)
    from infrakit.lifecycle import offline

    return offline.show(discovery.home(), store, version=version)


def _offline_store(not_running: NotRunning) -> str:
    """Return the URL of the store that a local daemon would use. Raises `not_running` if no store exists yet."""
    store = os.environ.get(STORE_VARIABLE, "")
    if not _exists_offline("store") and not (store and is_here()):
        raise not_running
    _warn_offline(not_running)
    return store


def _exists_offline(directory: str) -> bool:
    return is_here() and (discovery.home() / directory).is_dir()


def is_here() -> bool:
    """Whether commands go to the daemon of this INFRAKIT_HOME, not to a remote."""
    return target() == discovery.manager_socket()


def _warn_offline(not_running: NotRunning) -> None:
    print(f"infrakit: {not_running.what}; reading the stored data of the last daemon", file=sys.stderr)


def who() -> str:
    """Return the caller's identity for the history: `$INFRAKIT_USER`, or the unix user at this host."""
    named = os.environ.get(USER_VARIABLE)
    if named:
        return named
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run with a user ID that has no name
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"
