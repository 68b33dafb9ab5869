"""Event streams (server-sent events), with a periodic heartbeat comment.

The heartbeat lets either side detect that the other has disconnected. Streams are limited in number, and end with the
server.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec
from aiohttp import web

from infrakit.spi.event import Event

STREAMS_MAX = 64
HEARTBEAT_S = 2.0  # also how long a disconnected stream counts towards STREAMS_MAX

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "Access-Control-Allow-Origin": "*",
}


class Follows(Protocol):
    """A source of events, such as `events.journal.Journal`."""

    newest: int

    async def since(self, seq: int, *, group: str | None = None) -> Sequence[Event]:
        """Return the events after number `seq`, oldest first."""
        ...

    def follow(self, since: int, group: str | None = None) -> AsyncIterator[Event]:
        """Yield the events after `since`, and then each new one."""
        ...


class Streams:
    """The open event streams of one server."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[object]] = set()

    def end(self) -> None:
        """Close all streams, because the server stops."""
        for stream in self._open:
            stream.cancel()

    async def events(self, request: web.BaseRequest, journal: Follows) -> web.StreamResponse:
        """Stream the journal: `since` a number (default: from now on), of one `group`, and with `follow` new events."""
        since = request.query.get("since", "")
        if not re.fullmatch("[0-9]{0,18}", since):
            return web.Response(status=400, text="since must be the number of an event")
        start, group = int(since) if since else journal.newest, request.query.get("group")
        follow = request.query.get("follow", "true") == "true"
        sent = journal.follow(start, group) if follow else _listed(journal, start, group)
        return await self.send(request, encoded(sent))

    async def send(self, request: web.BaseRequest, texts: AsyncIterator[bytes]) -> web.StreamResponse:
        """Stream a line for each text, until there are no more or the client disconnects."""
        task = asyncio.current_task()
        if len(self._open) >= STREAMS_MAX or task is None:
            return web.Response(status=503, text="too many event streams")
        self._open.add(task)
        response = web.StreamResponse(headers=_HEADERS)
        try:
            await response.prepare(request)
            await response.write(b": infrakit\n\n")
            async with contextlib.aclosing(texts):  # type: ignore[type-var]
                await _send(response, texts)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has disconnected, or the server stops
        finally:
            self._open.discard(task)
        return response


async def _send(response: web.StreamResponse, texts: AsyncIterator[bytes]) -> None:
    upcoming: asyncio.Task[bytes] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(_next(texts))
            done, _ = await asyncio.wait({upcoming}, timeout=HEARTBEAT_S)
            if not done:
                await response.write(b":\n\n")
                continue
            text, upcoming = upcoming.result(), None
            if not text:
                return
            await response.write(b"data: " + text + b"\n\n")
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait({upcoming})


async def _next(texts: AsyncIterator[bytes]) -> bytes:
    """Return the next text, empty at the end, because a task cannot raise `StopAsyncIteration`."""
    return await anext(texts, b"")


async def _listed(journal: Follows, since: int, group: str | None) -> AsyncIterator[Event]:
    for event in await journal.since(since, group=group):
        yield event


async def encoded(values: AsyncIterator[object]) -> AsyncIterator[bytes]:
    """Encode values as JSON texts."""
    async with contextlib.aclosing(values):  # type: ignore[type-var]
        async for value in values:
            yield msgspec.json.encode(value)
