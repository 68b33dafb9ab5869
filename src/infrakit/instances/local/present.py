"""Lists the instances, as cheaply as the kernel allows.

A running instance costs one `stat` per listing: its leader is held by a pidfd in an epoll, where one call returns all
leaders that have exited, and its description stays the same object until something changes.
An instance in any other phase is read again by every listing; a terminated one is archived at once.
"""

import contextlib
import pathlib
import select
import signal
from collections.abc import Callable, Iterator

import msgspec

from infrakit.events import last_line
from infrakit.instances.local import processes, records, tail
from infrakit.instances.local.home import Home
from infrakit.instances.local.records import InstanceRecord, Phase
from infrakit.spi.values import Description, InstanceID, State

_STATES = {
    Phase.PENDING: State.PENDING,
    Phase.RUNNING: State.RUNNING,
    Phase.STOPPING: State.STOPPING,
    Phase.FINISHED: State.FINISHED,
}


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of `Description.properties`."""

    pid: int | None = msgspec.field(default=None, name="PID")
    pgid: int | None = msgspec.field(default=None, name="PGID")
    directory: str = msgspec.field(name="Directory")
    log: str = msgspec.field(name="Log")
    exit_code: int | None = msgspec.field(default=None, name="ExitCode")


class _Tracked:
    """One instance as last observed."""

    def __init__(self, path: pathlib.Path, stamp: tuple[int, int], record: InstanceRecord) -> None:
        self.path = path
        self.stamp = stamp
        self.record = record
        self.pidfd: int | None = None
        self.is_unchanging = False  # only a new record, or the exit of the watched leader, can change it
        self.exit_reported = False  # whether the hint about its exit was emitted
        self.description: Description | None = None

    def described(self, state: State) -> Description:
        if self.description is None or self.description.state is not state:
            self.description = Description(
                id=InstanceID(self.record.id),
                logical_id=self.record.logical_id,
                tags=self.record.tags,
                state=state,
                attachments=self.record.attachments,
            )
        return self.description


class Present:
    """Tracks and lists the instances. The callbacks request the action that follows from an observation.

    Not thread-safe: used from the event loop's thread only.
    """

    def __init__(
        self,
        home: Home,
        *,
        emit: Callable[[str], None],
        terminated: Callable[[str], None],
        finished: Callable[[str], None],
        destroy: Callable[[InstanceRecord], object],
    ) -> None:
        self._home = home
        self._emit_hint = emit
        self._terminated = terminated
        self._finished = finished
        self._destroy = destroy
        self._entries: dict[str, _Tracked] = {}
        self._by_pidfd: dict[int, _Tracked] = {}
        self._exits = select.epoll()

    def fileno(self) -> int:
        """Return a descriptor that is readable when a leader has exited."""
        return self._exits.fileno()

    def collect_exits(self) -> None:
        """Record and reap all leaders that have exited."""
        for pidfd, _ in self._exits.poll(0):
            entry = self._by_pidfd.pop(pidfd)
            entry.pidfd, entry.is_unchanging = None, False
            self._exits.unregister(pidfd)
            processes.reap(pidfd)
            self._report_exit(entry)

    def _report_exit(self, entry: _Tracked) -> None:
        entry.exit_reported = True
        code = records.exit_code(entry.path.parent)
        event = _exit_text(code)
        if code is not None and last_line.explains_exit(code) and code not in entry.record.success_codes:
            event += last_line.as_suffix(last_line.last_line(tail.end(entry.path.with_name("log"))))
        self._emit_hint(f"{entry.record.id} {event}")

    def all(self) -> Iterator[Description]:
        """Yield the descriptions of all instances, ordered by ID."""
        names = sorted(each.name for each in self._home.instances.iterdir())
        self.collect_exits()
        for missing in self._entries.keys() - set(names):
            self._forget(missing)
        for name in names:
            seen = self.observe(name)
            if seen is not None:
                yield seen

    def observe(self, instance_id: str) -> Description | None:
        """Return the current description of an instance; None if it does not exist."""
        try:
            return self._observe(instance_id)
        except FileNotFoundError:  # archived or discarded concurrently, by another process or thread
            self._forget(instance_id)
            return None

    def facts(self, instance_id: str) -> Facts:
        """Return the facts that are not part of the description."""
        place = self._home.instance(instance_id)
        leader, code = records.leader(place), records.exit_code(place)
        pid = leader.pid if leader is not None else None
        return Facts(pid=pid, pgid=pid, directory=str(place / "work"), log=str(place / "log"), exit_code=code)

    def close(self) -> None:
        for name in list(self._entries):
            self._forget(name)
        self._exits.close()

    def _observe(self, instance_id: str) -> Description | None:
        entry = self._entries.get(instance_id)
        if entry is not None and entry.is_unchanging and entry.stamp == _stamp(entry.path):
            described = entry.description
        else:
            described = self._refresh(instance_id)
        if described is not None and described.state is State.STOPPING:
            self._destroy(self._entries[instance_id].record)
        return described

    def _refresh(self, instance_id: str) -> Description | None:
        place = self._home.instance(instance_id)
        if records.is_id(instance_id) and records.exists(place / "started"):
            entry = self._read(place)
            if self._watch_leader(entry):
                entry.is_unchanging = True
                return entry.described(State.STOPPING if entry.record.ending else State.RUNNING)
        phase = records.phase(self._home, instance_id)
        if phase not in records.PRESENT:
            known = self._entries.get(instance_id)
            if phase is Phase.TERMINATED and known is not None and not known.exit_reported:  # it exited unwatched
                self._report_exit(known)
            self._forget(instance_id)
            if phase is Phase.TERMINATED:
                records.archive(self._home, instance_id)
                self._terminated(instance_id)
            return None
        entry = self._read(place)
        entry.is_unchanging = phase is Phase.FINISHED
        if entry.is_unchanging:
            self._finished(instance_id)
        return entry.described(_STATES[phase])

    def _read(self, place: pathlib.Path) -> _Tracked:
        path = place / "instance.json"
        stamp = _stamp(path)  # before reading: a change in between is then detected by the next listing
        entry = self._entries.get(place.name)
        if entry is None:
            entry = self._entries[place.name] = _Tracked(path, stamp, records.read(place))
        elif entry.stamp != stamp:
            entry.record, entry.stamp, entry.description = records.read(place), stamp, None
        return entry

    def _watch_leader(self, entry: _Tracked) -> bool:
        """Return whether the leader runs; if so, the epoll watches it from now on."""
        if entry.pidfd is not None:
            return True
        identity = records.leader(entry.path.parent)
        entry.pidfd = processes.open_leader(identity) if identity is not None else None
        if entry.pidfd is None:
            return False
        self._by_pidfd[entry.pidfd] = entry
        self._exits.register(entry.pidfd, select.EPOLLIN)
        return True

    def _forget(self, instance_id: str) -> None:
        entry = self._entries.pop(instance_id, None)
        if entry is not None and entry.pidfd is not None:
            del self._by_pidfd[entry.pidfd]
            self._exits.unregister(entry.pidfd)
            processes.reap(entry.pidfd)


def _stamp(path: pathlib.Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _exit_text(code: int | None) -> str:
    if code is None:
        return "was killed"
    with contextlib.suppress(ValueError):  # shells return 128 + N for a script that was killed by signal N
        return f"exited with code {code} ({signal.Signals(code - 128).name})"
    return f"exited with code {code}"
