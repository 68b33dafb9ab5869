"""Processes of an instance, told from all others.

A process is its number, its start time and the boot it lived in: a number alone is used again. The leader, which is
the first process of the instance and leads its session and group, is held by a `pidfd`, which never means another.

When the leader is gone, its group's number proves nothing any more. Those it left behind are then recognised one by
one: by the instance's directory in their environment, or by the instance's lock among their open files.
"""

import contextlib
import functools
import os
import pathlib
import select
import signal
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

MARK = "INFRAKIT_DIRECTORY"  # set for every process of an instance, to the instance's own directory


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The leader of an instance."""

    pid: int
    start_ticks: int  # since boot
    boot_id: str


class Stat(NamedTuple):
    """What the kernel tells of a process."""

    state: str
    start_ticks: int


def identify(pid: int) -> Identity:
    """Raises `ProcessLookupError`."""
    found = stat(pid)
    if found is None:
        raise ProcessLookupError(pid)
    return Identity(pid=pid, start_ticks=found.start_ticks, boot_id=boot_id())


@functools.cache
def boot_id() -> str:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> Stat | None:
    """None: there is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything, also parentheses
    return Stat(state=fields[0], start_ticks=int(fields[19]))


def open_leader(identity: Identity) -> int | None:
    """A pidfd of this very process; None: it is dead, and reaped if it was a child of ours."""
    if identity.boot_id != boot_id():
        return None
    try:
        held = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Looked at after opening: if this is still the process we mean, it is the one that is held.
    found = stat(identity.pid)
    if found is None or found.start_ticks != identity.start_ticks:
        os.close(held)
        return None
    if has_ended(held):
        reap(held)
        return None
    return held


def reap(pidfd: int) -> None:
    """Let go of a process that has ended."""
    with contextlib.suppress(ChildProcessError):  # it was the child of a daemon before us
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    os.close(pidfd)


def has_ended(pidfd: int) -> bool:
    """Whether the process has ended; a zombie has."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def is_alive(identity: Identity) -> bool:
    held = open_leader(identity)
    if held is None:
        return False
    os.close(held)
    return True


def has_begun(identity: Identity) -> bool:
    """Whether the leader's child is already the program that it shall be, and not still the leader's copy.

    A signal that comes before is caught by what the copy has inherited, and lost.
    """
    own = pathlib.Path(f"/proc/{identity.pid}")
    try:
        children = (own / "task" / str(identity.pid) / "children").read_text().split()
        mine = (own / "cmdline").read_bytes()
        return any(pathlib.Path(f"/proc/{each}/cmdline").read_bytes() not in (mine, b"") for each in children)
    except (FileNotFoundError, ProcessLookupError):  # one of them has ended, or this kernel does not tell
        return True


def signal_group(identity: Identity, number: signal.Signals) -> None:
    """Signal the whole group of a leader, if that lives."""
    held = open_leader(identity)
    if held is None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(identity.pid, number)
    finally:
        os.close(held)


def group_has_members(identity: Identity, place: pathlib.Path) -> bool:
    """Whether a dead leader's group lives on. Cheap when it does not."""
    if identity.boot_id != boot_id():
        return False
    try:
        os.killpg(identity.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return any(True for _ in _marked(place))


def signal_remains(place: pathlib.Path, number: signal.Signals, *, spare: set[int]) -> set[int]:
    """Signal what the leader of the instance in this directory has left behind, except `spare`; who was signalled."""
    signalled = set()
    for pid in (set(_marked(place)) or set(_holding(place / "lock"))) - spare:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            held = os.pidfd_open(pid)
            try:
                if _is_marked(pid, place) or _holds(pid, place / "lock"):
                    signal.pidfd_send_signal(held, number)
                    signalled.add(pid)
            finally:
                os.close(held)
    return signalled


def _all() -> Iterator[int]:
    own = os.getpid()
    names = [each.name for each in pathlib.Path("/proc").iterdir()]
    return (pid for name in names if name.isdigit() and (pid := int(name)) != own)


def _marked(place: pathlib.Path) -> Iterator[int]:
    return (pid for pid in _all() if _is_marked(pid, place))


def _is_marked(pid: int, place: pathlib.Path) -> bool:
    try:
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()  # empty for a zombie
    except OSError:
        return False
    return f"{MARK}={place}".encode() in environment.split(b"\0")


def _holding(lock: pathlib.Path) -> Iterator[int]:
    return (pid for pid in _all() if _holds(pid, lock))


def _holds(pid: int, lock: pathlib.Path) -> bool:
    """Whether it has the lock itself. Whoever merely looks at it (`home.is_locked`) has a shared one."""
    try:
        files = list(pathlib.Path(f"/proc/{pid}/fd").iterdir())
        return any(each.readlink() == lock and _has_exclusive_lock(pid, each.name) for each in files)
    except OSError:
        return False


def _has_exclusive_lock(pid: int, file: str) -> bool:
    lines = pathlib.Path(f"/proc/{pid}/fdinfo/{file}").read_text().splitlines()
    return any(line.startswith("lock:") and "FLOCK" in line and "WRITE" in line for line in lines)
