"""A live follower of the journal: bounded, so that a slow reader loses events instead of memory, and is told so."""

import asyncio
import collections
from collections.abc import AsyncIterator

from infrakit.spi.event import Event, Kind

WAITING_MAX = 5_000


class Follower:
    """Takes events from the journal without ever blocking it, and gives them to one reader."""

    def __init__(self, group: str | None, *, waiting_max: int = WAITING_MAX) -> None:
        self._group = group
        self._waiting: collections.deque[Event] = collections.deque()
        self._waiting_max = waiting_max
        self._dropped = 0
        self._ready = asyncio.Event()

    def offer(self, event: Event) -> None:
        """An event for the reader, if it is of its group."""
        if self._group is not None and event.group != self._group:
            return
        if len(self._waiting) >= self._waiting_max:
            self._dropped += 1
        else:
            self._waiting.append(event)
        self._ready.set()

    async def events(self, since: int) -> AsyncIterator[Event]:
        """Events after number `since`; in the place of those that were dropped, one that counts them."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._waiting:
                event = self._waiting.popleft()
                if event.seq > since:
                    yield event
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                yield Event(type=Kind.ERROR, message=f"{dropped} events were left out: this reader is too slow")
