"""Event streams (server-sent events): lines as they come, and a comment now and then.

The comment lets either side notice that the other has left. Streams are bounded in number, and end with the server.
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
HEARTBEAT_S = 2.0  # so long does a stream hold its place when its reader has left

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "Access-Control-Allow-Origin": "*",
}


class Follows(Protocol):
    """Where events come from. `events.journal.Journal` is one."""

    newest: int

    async def since(self, seq: int, *, group: str | None = None) -> Sequence[Event]:
        """The events after number `seq`, oldest first."""
        ...

    def follow(self, since: int, group: str | None = None) -> AsyncIterator[Event]:
        """The events after `since`, and then each as it comes."""
        ...


class Streams:
    """The streams of one server."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[object]] = set()

    def end(self) -> None:
        """End them all: the server stops."""
        for stream in self._open:
            stream.cancel()

    async def events(self, request: web.BaseRequest, journal: Follows) -> web.StreamResponse:
        """What the journal tells: `since` a number (else from now on), of one `group`, to the end or `follow`ed."""
        since = request.query.get("since", "")
        if not re.fullmatch("[0-9]{0,18}", since):
            return web.Response(status=400, text="since is the number of an event")
        start, group = int(since) if since else journal.newest, request.query.get("group")
        follow = request.query.get("follow", "true") == "true"
        told = journal.follow(start, group) if follow else _listed(journal, start, group)
        return await self.send(request, encoded(told))

    async def send(self, request: web.BaseRequest, texts: AsyncIterator[bytes]) -> web.StreamResponse:
        """Answer with a line for each text, until there is none any more or the reader has left."""
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
            pass  # the reader has left, or the server stops
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
    """Nothing: there is no more. A task cannot raise `StopAsyncIteration`."""
    return await anext(texts, b"")


async def _listed(journal: Follows, since: int, group: str | None) -> AsyncIterator[Event]:
    for event in await journal.since(since, group=group):
        yield event


async def encoded(values: AsyncIterator[object]) -> AsyncIterator[bytes]:
    """Values as JSON texts."""
    async with contextlib.aclosing(values):  # type: ignore[type-var]
        async for value in values:
            yield msgspec.json.encode(value)
