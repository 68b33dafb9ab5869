"""Identifies the processes of an instance.

A process is identified by its PID, its start time and the boot ID, because PIDs are reused. The leader, which is the
first process of the instance and the leader of its session and process group, is held by a `pidfd`, which never refers
to another process.

After the leader has exited, its process group ID may be reused. Each remaining process is then identified by the
instance's directory in its environment, or by the instance's lock among its open files.
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
    """Identifies the leader of an instance across PID reuse and reboots."""

    pid: int
    start_ticks: int  # since boot
    boot_id: str


class Stat(NamedTuple):
    """The fields used from `/proc/PID/stat`."""

    state: str
    start_ticks: int


def identify(pid: int) -> Identity:
    """Return the identity of a running process. Raises `ProcessLookupError`."""
    found = stat(pid)
    if found is None:
        raise ProcessLookupError(pid)
    return Identity(pid=pid, start_ticks=found.start_ticks, boot_id=boot_id())


@functools.cache
def boot_id() -> str:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> Stat | None:
    """Return the status of a process; None if there is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the process name before may contain anything, also parentheses
    return Stat(state=fields[0], start_ticks=int(fields[19]))


def open_leader(identity: Identity) -> int | None:
    """Open a pidfd of this process. If it has exited, return None, and reap it if it was a child."""
    if identity.boot_id != boot_id():
        return None
    try:
        held = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Check the start time after opening: if it matches now, the pidfd refers to the right process.
    found = stat(identity.pid)
    if found is None or found.start_ticks != identity.start_ticks:
        os.close(held)
        return None
    if has_exited(held):
        reap(held)
        return None
    return held


def reap(pidfd: int) -> None:
    """Reap a process that has exited, and close its pidfd."""
    with contextlib.suppress(ChildProcessError):  # it was a child of a previous daemon
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    os.close(pidfd)


def has_exited(pidfd: int) -> bool:
    """Whether the process has exited; true for a zombie."""
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
    """Whether the leader's child has executed its program, and is not still the forked copy of the leader.

    Before that, the signal handlers inherited from the leader would catch a signal, which would be lost.
    """
    own = pathlib.Path(f"/proc/{identity.pid}")
    try:
        children = (own / "task" / str(identity.pid) / "children").read_text().split()
        own_command = (own / "cmdline").read_bytes()
        return any(pathlib.Path(f"/proc/{each}/cmdline").read_bytes() not in (own_command, b"") for each in children)
    except (FileNotFoundError, ProcessLookupError):  # one of them has exited, or this kernel does not list children
        return True


def signal_group(identity: Identity, number: signal.Signals) -> None:
    """Signal the process group of a leader, if the leader runs."""
    held = open_leader(identity)
    if held is None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(identity.pid, number)
    finally:
        os.close(held)


def group_has_members(identity: Identity, place: pathlib.Path) -> bool:
    """Whether processes remain in the group of a leader that has exited. Cheap if none do."""
    if identity.boot_id != boot_id():
        return False
    try:
        os.killpg(identity.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return any(True for _ in _marked(place))


def signal_remaining(place: pathlib.Path, number: signal.Signals, *, exclude: set[int]) -> set[int]:
    """Signal the processes of this instance that outlive its leader, except `exclude`. Returns the PIDs signalled."""
    signalled = set()
    for pid in (set(_marked(place)) or set(_holding(place / "lock"))) - exclude:
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
    """Whether the process holds the lock exclusively. A process that checks it (`home.is_locked`) has it shared."""
    try:
        files = list(pathlib.Path(f"/proc/{pid}/fd").iterdir())
        return any(each.readlink() == lock and _has_exclusive_lock(pid, each.name) for each in files)
    except OSError:
        return False


def _has_exclusive_lock(pid: int, file: str) -> bool:
    lines = pathlib.Path(f"/proc/{pid}/fdinfo/{file}").read_text().splitlines()
    return any(line.startswith("lock:") and "FLOCK" in line and "WRITE" in line for line in lines)
