"""Sockets on both sides: our server in the test's loop, raw bytes to it, and servers that misbehave."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from infrakit.events.journal import Journal
from infrakit.rpc import call
from infrakit.spi.clock import SystemClock
from infrakit.spi.event import Event, Kind
from infrakit.spi.values import GroupID

DEADLINE_S = 120.0  # of every wait; successful tests are far below it


async def call_in_thread(path: Path, method: Callable[..., Any], /, **parameters: Any) -> Any:
    """Call with the synchronous client, in a thread."""
    return await asyncio.to_thread(call.call, path, method, **parameters)


def post(body: bytes, *headers: str) -> bytes:
    """A request as a client of the original sends it."""
    lines = ["POST / HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def rpc(method: str, params: Any = None, id_: Any = 7) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}, "id": id_}).encode()


class Response:
    """A complete HTTP response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """Sends raw bytes to a unix socket, and reads complete responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Response:
        async with asyncio.timeout(DEADLINE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return Response(int(head[0].split()[1]), headers, body)

    async def exchange(self, data: bytes) -> Response:
        await self.send(data)
        return await self.answer()

    async def closed_by_peer(self) -> bytes:
        """Everything that arrives until the other side closes the connection."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def connect(path: Path) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.contextmanager
def misbehaving(path: Path, behave: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server in a thread, which accepts one connection, passes it to `behave`, and closes it."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.settimeout(DEADLINE_S)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(DEADLINE_S)
            behave(accepted)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(DEADLINE_S)
        listening.close()
        assert not thread.is_alive()


def answers(answer: bytes, *, after: bytes = b'"method"') -> Callable[[socket.socket], None]:
    """Sends `answer` when it has received `after`."""

    def behave(connection: socket.socket) -> None:
        received = b""
        while after not in received:
            received += connection.recv(65536)
        connection.sendall(answer)

    return behave


class WatchedJournal(Journal):
    """A journal in memory that counts its followers."""

    def __init__(self) -> None:
        super().__init__(None, clock=SystemClock())
        self.listeners = 0
        self._changed = asyncio.Condition()

    def record(self, message: str, group: str = "web") -> Event:
        return self.emit(Event(type=Kind.CREATED, group=GroupID(group), message=message))

    async def follow(self, since: int, group: str | None = None) -> AsyncIterator[Event]:
        await self._count(1)
        try:
            async with contextlib.aclosing(super().follow(since, group)) as events:  # type: ignore[type-var]
                async for event in events:
                    yield event
        finally:
            await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.listeners += change
            self._changed.notify_all()

    async def until_listeners(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: self.listeners == count)


@contextlib.asynccontextmanager
async def scripted_server(path: Path, answer: Callable[[dict[str, Any]], bytes]) -> AsyncIterator[None]:
    """A server that replies to each request with the bytes of `answer`; `"ECHO"` in them stands for the request's ID.

    If there are no bytes, it closes the connection instead.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                request = json.loads(await reader.readexactly(length))
                body = answer(request).replace(b'"ECHO"', json.dumps(request["id"]).encode())
                if not body:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()

    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield
    finally:
        server.close()
