"""The journal: events as lines of JSON, bounded in size, persistent across restarts.

`emit` never blocks: it numbers the event and buffers it in memory. A task flushes the buffer ten times a second. A line
that a crash or a full disk has left incomplete is truncated before the next one is written. If the disk fails, the
journal continues in memory and emits one event about it.
"""

import asyncio
import collections
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from infrakit.events.follow import Follower
from infrakit.spi import codec, errors
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event, Kind, timestamp
from infrakit.spi.values import GroupID

RING_EVENTS = 20_000  # kept in memory
SEGMENT_BYTES_MAX = 4 * 1024 * 1024
SEGMENTS_MAX = 8
FLUSH_INTERVAL_S = 0.1

_encoder = msgspec.json.Encoder()


class Journal:
    """Stores and serves events; an async context manager. `path` is a directory; None keeps events in memory only."""

    def __init__(self, path: Path | None, *, clock: Clock, ring_events: int = RING_EVENTS) -> None:
        self._path = path
        self._clock = clock
        self._ring: collections.deque[Event] = collections.deque(maxlen=ring_events)
        self._unwritten: list[Event] = []
        self._followers: set[Follower] = set()
        self._segment: Path | None = None
        self._segment_bytes = 0
        self._failing = False
        self._writer: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self.newest = 0  # sequence number of the newest event

    def emit(self, event: Event) -> Event:
        """Assign number and timestamp, and pass the event to followers. The next flush writes it to disk."""
        self.newest += 1
        event = msgspec.structs.replace(event, seq=self.newest, timestamp=timestamp(self._clock.now()))
        self._ring.append(event)
        if self._path is not None:
            self._unwritten.append(event)
        for follower in self._followers:
            follower.offer(event)
        return event

    # -- reading ---------------------------------------------------------------------------------------------------

    async def since(self, seq: int, *, group: str | None = None, limit: int = RING_EVENTS) -> list[Event]:
        """Return the newest `limit` events after number `seq`, oldest first."""
        found = [event for event in self._ring if _matches(event, seq, group)]
        oldest = self._ring[0].seq if self._ring else self.newest + 1
        if len(found) < limit and seq + 1 < oldest:
            found = await asyncio.to_thread(self._stored, seq, oldest, group, limit - len(found)) + found
        return found[max(0, len(found) - limit) :]

    def story(self, *, group: GroupID, subject: str, limit: int) -> Sequence[Event]:
        """Return the newest events of one instance or slot, or without a subject of the group; oldest first."""
        found: collections.deque[Event] = collections.deque(maxlen=limit)
        found.extend(e for e in self._ring if e.group == group and (not subject or subject in (e.instance, e.slot)))
        return list(found)

    def groups(self) -> set[GroupID]:
        """Return the groups of the events in memory."""
        return {event.group for event in self._ring if event.group is not None}

    async def follow(self, since: int, group: str | None = None) -> AsyncIterator[Event]:
        """Yield the events after `since`, then every new one."""
        follower = Follower(group)
        self._followers.add(follower)
        try:
            for event in await self.since(since, group=group):
                yield event
                since = event.seq
            async for event in follower.events(since):
                yield event
        finally:
            self._followers.discard(follower)

    # -- files -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._path is not None:
            try:
                self._recover(self._path)
            except OSError as error:
                raise errors.Refused(
                    f"the journal cannot be read ({error.strerror})",
                    where=str(error.filename or self._path),
                    remedy="check the disk, or move it away to start a new journal",
                ) from None
            self._writer = asyncio.get_running_loop().create_task(self._flush_periodically())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait({self._writer})
            await self.flush()

    async def _flush_periodically(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self._write()

    async def flush(self) -> None:
        """Write the buffered events. If cancelled, the write in progress continues, and the next flush waits for it."""
        while self._unwritten or self._writing is not None:
            await self._write()

    async def _write(self) -> None:
        """Wait for the write in progress, or write the events that are buffered now; more may be added meanwhile."""
        if self._writing is None and self._unwritten:
            batch, self._unwritten = self._unwritten, []
            text = b"".join(_encoder.encode(event) + b"\n" for event in batch)
            write = asyncio.to_thread(self._append, text, batch[0].seq)
            self._writing = asyncio.get_running_loop().create_task(write)
        writing = self._writing
        if writing is None:
            return
        await asyncio.wait({writing})
        if self._writing is writing:
            self._writing = None
            self._report_failure(writing.exception())

    def _report_failure(self, error: BaseException | None) -> None:
        """Emit an event when writing starts to fail, and again only after a write has succeeded."""
        if error is not None and not self._failing:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self.emit(
                Event(type=Kind.ERROR, message=f"the journal cannot be written ({why}): events are kept in memory only")
            )
        self._failing = error is not None

    def _append(self, text: bytes, first: int) -> None:
        path = self._path
        if path is None:
            return
        if self._segment is None or self._segment_bytes > SEGMENT_BYTES_MAX:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._segment, self._segment_bytes = path / f"{first:012}.jsonl", 0
            for old in _segments(path)[: -SEGMENTS_MAX + 1]:
                old.unlink(missing_ok=True)
        descriptor = os.open(self._segment, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            if file.tell() > self._segment_bytes:
                file.truncate(self._segment_bytes)
            file.write(text)
        self._segment_bytes += len(text)

    def _recover(self, path: Path) -> None:
        """Continue the newest segment after its last complete line, and load the newest events into memory."""
        segments = _segments(path)
        for segment in segments[-2:]:
            content = segment.read_bytes()
            complete = content[: content.rfind(b"\n") + 1]
            self._segment, self._segment_bytes = segment, len(complete)
            self._ring.extend(_lines(complete))
        if self._ring:
            self.newest = self._ring[-1].seq
        elif segments:
            self.newest = int(segments[-1].stem)

    def _stored(self, seq: int, before: int, group: str | None, enough: int) -> list[Event]:
        """Read matching events older than those in memory, from the newest segment backwards until `enough`."""
        found: list[Event] = []
        segments = _segments(self._path) if self._path is not None else []
        for segment in reversed(segments):
            if int(segment.stem) < before:
                with contextlib.suppress(OSError):  # removed by rotation, or unreadable: its events are skipped
                    events = _lines(segment.read_bytes())
                    found = [e for e in events if e.seq < before and _matches(e, seq, group)] + found
            if int(segment.stem) <= seq + 1 or len(found) >= enough:
                break
        return found


def read_events(path: Path, seq: int = 0, *, group: str | None = None) -> Iterator[Event]:
    """Yield the events after number `seq` from a journal's directory, oldest first; the journal may be in use."""
    segments = _segments(path)
    for segment, following in itertools.zip_longest(segments, segments[1:]):
        if following is None or int(following.stem) > seq + 1:
            with contextlib.suppress(FileNotFoundError):  # removed by rotation: its events are skipped
                yield from (event for event in _lines(segment.read_bytes()) if _matches(event, seq, group))


def _matches(event: Event, seq: int, group: str | None) -> bool:
    return event.seq > seq and (group is None or event.group == group)


def _segments(path: Path) -> list[Path]:
    return sorted(p for p in path.glob("*.jsonl") if p.stem.isdigit())


def _lines(content: bytes) -> Iterator[Event]:
    for line in content.splitlines():
        with contextlib.suppress(msgspec.MsgspecError):  # a damaged line is skipped
            yield codec.decode(line, Event)
