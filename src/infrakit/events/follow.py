"""A live follower of the journal. Its queue is bounded: a slow reader loses events, and receives the number lost."""

import asyncio
import collections
from collections.abc import AsyncIterator

from infrakit.spi.event import Event, Kind

WAITING_MAX = 5_000


class Follower:
    """Queues events for one reader, and never blocks the journal."""

    def __init__(self, group: str | None, *, waiting_max: int = WAITING_MAX) -> None:
        self._group = group
        self._waiting: collections.deque[Event] = collections.deque()
        self._waiting_max = waiting_max
        self._dropped = 0
        self._ready = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Queue an event, if it belongs to the reader's group."""
        if self._group is not None and event.group != self._group:
            return
        if len(self._waiting) >= self._waiting_max:
            self._dropped += 1
        else:
            self._waiting.append(event)
        self._ready.set()

    async def events(self, since: int) -> AsyncIterator[Event]:
        """Yield the events after number `since`. Dropped events are replaced by one event with their number."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._waiting:
                event = self._waiting.popleft()
                if event.seq > since:
                    yield event
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                yield Event(type=Kind.ERROR, message=f"{dropped} events were dropped: this reader is too slow")
