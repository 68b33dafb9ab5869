"""The instances that are there, listed as cheaply as the kernel allows.

A running instance costs one `stat` a listing: its leader is held by a pidfd in an epoll, which tells in one call who
of all has ended, and its description stays the same object until something changes.
Everything that is not simply running is looked at anew each time; the dead are buried as soon as they are seen.
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
from infrakit.instances.local.records import Phase, Record
from infrakit.spi.values import Description, InstanceID, State

_STATES = {
    Phase.PENDING: State.PENDING,
    Phase.RUNNING: State.RUNNING,
    Phase.STOPPING: State.STOPPING,
    Phase.FINISHED: State.FINISHED,
}


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `Description.properties` tells when asked."""

    pid: int | None = msgspec.field(default=None, name="PID")
    pgid: int | None = msgspec.field(default=None, name="PGID")
    directory: str = msgspec.field(name="Directory")
    log: str = msgspec.field(name="Log")
    exit_code: int | None = msgspec.field(default=None, name="ExitCode")


class _Entry:
    """One instance as it was seen last."""

    def __init__(self, path: pathlib.Path, stamp: tuple[int, int], record: Record) -> None:
        self.path = path
        self.stamp = stamp
        self.record = record
        self.pidfd: int | None = None
        self.is_settled = False  # only a new record, or the end of the leader that is held, can change it
        self.is_told = False  # how its leader has ended
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
    """Used from the event loop's thread only. The callbacks tell what has to be done about what was seen."""

    def __init__(
        self,
        home: Home,
        *,
        tell: Callable[[str], None],
        died: Callable[[str], None],
        finished: Callable[[str], None],
        must_end: Callable[[Record], object],
    ) -> None:
        self._home = home
        self._tell = tell
        self._died = died
        self._finished = finished
        self._must_end = must_end
        self._entries: dict[str, _Entry] = {}
        self._by_pidfd: dict[int, _Entry] = {}
        self._exits = select.epoll()

    def fileno(self) -> int:
        """Readable when a leader has ended."""
        return self._exits.fileno()

    def notice(self) -> None:
        """Take note of all leaders that have ended, and reap them."""
        for pidfd, _ in self._exits.poll(0):
            entry = self._by_pidfd.pop(pidfd)
            entry.pidfd, entry.is_settled = None, False
            self._exits.unregister(pidfd)
            processes.reap(pidfd)
            self._tell_end(entry)

    def _tell_end(self, entry: _Entry) -> None:
        entry.is_told = True
        code = records.exit_code(entry.path.parent)
        told = _in_words(code)
        if code is not None and last_line.is_told(code) and code not in entry.record.success_codes:
            told += last_line.ends(last_line.last_line(tail.end(entry.path.with_name("log"))))
        self._tell(f"{entry.record.id} {told}")

    def all(self) -> Iterator[Description]:
        """Every instance that is there, by ID."""
        names = sorted(each.name for each in self._home.instances.iterdir())
        self.notice()
        for gone in self._entries.keys() - set(names):
            self._forget(gone)
        for name in names:
            seen = self.look(name)
            if seen is not None:
                yield seen

    def look(self, instance_id: str) -> Description | None:
        """The instance as it is now; None: it is not there."""
        try:
            return self._look(instance_id)
        except FileNotFoundError:  # buried or discarded in this very moment, by another process or a thread of ours
            self._forget(instance_id)
            return None

    def facts(self, instance_id: str) -> Facts:
        """What is known beyond the description."""
        place = self._home.instance(instance_id)
        leader, code = records.leader(place), records.exit_code(place)
        pid = leader.pid if leader is not None else None
        return Facts(pid=pid, pgid=pid, directory=str(place / "work"), log=str(place / "log"), exit_code=code)

    def close(self) -> None:
        for name in list(self._entries):
            self._forget(name)
        self._exits.close()

    def _look(self, instance_id: str) -> Description | None:
        entry = self._entries.get(instance_id)
        if entry is not None and entry.is_settled and entry.stamp == _stamp(entry.path):
            described = entry.description
        else:
            described = self._look_closer(instance_id)
        if described is not None and described.state is State.STOPPING:
            self._must_end(self._entries[instance_id].record)
        return described

    def _look_closer(self, instance_id: str) -> Description | None:
        place = self._home.instance(instance_id)
        if records.is_id(instance_id) and (place / "started").exists():
            entry = self._read(place)
            if self._hold(entry):
                entry.is_settled = True
                return entry.described(State.STOPPING if entry.record.ending else State.RUNNING)
        phase = records.phase(self._home, instance_id)
        if phase not in records.PRESENT:
            known = self._entries.get(instance_id)
            if phase is Phase.DEAD and known is not None and not known.is_told:  # it was gone at the first look
                self._tell_end(known)
            self._forget(instance_id)
            if phase is Phase.DEAD:
                records.bury(self._home, instance_id)
                self._died(instance_id)
            return None
        entry = self._read(place)
        entry.is_settled = phase is Phase.FINISHED
        if entry.is_settled:
            self._finished(instance_id)
        return entry.described(_STATES[phase])

    def _read(self, place: pathlib.Path) -> _Entry:
        path = place / "instance.json"
        stamp = _stamp(path)  # before reading: a change in between is read again next time
        entry = self._entries.get(place.name)
        if entry is None:
            entry = self._entries[place.name] = _Entry(path, stamp, records.read(place))
        elif entry.stamp != stamp:
            entry.record, entry.stamp, entry.description = records.read(place), stamp, None
        return entry

    def _hold(self, entry: _Entry) -> bool:
        """Whether the leader lives, which the epoll watches from then on."""
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


def _in_words(code: int | None) -> str:
    if code is None:
        return "was killed"
    with contextlib.suppress(ValueError):  # the code of a script that a signal has ended, as shells make it
        return f"exited with code {code} ({signal.Signals(code - 128).name})"
    return f"exited with code {code}"
