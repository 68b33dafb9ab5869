"""Sockets on both sides: our server in the test's loop, raw bytes to it, and servers that misbehave."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from infrakit.rpc import call
from infrakit.spi.event import Event

DEADLINE_S = 30.0  # for whatever must come; nothing waits so long when all is well


async def ask(path: Path, method: Callable[..., Any], /, **parameters: Any) -> Any:
    """Our synchronous client, in a thread of its own."""
    return await asyncio.to_thread(call.call, path, method, **parameters)


def post(body: bytes, *headers: str) -> bytes:
    """A request as a client of the original sends it."""
    lines = ["POST / HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def rpc(method: str, params: Any = None, id_: Any = 7) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}, "id": id_}).encode()


class Answer:
    """A whole HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """Raw bytes to a unix socket, and whole answers back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(DEADLINE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return Answer(int(head[0].split()[1]), headers, body)

    async def exchange(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def closed_by_peer(self) -> bytes:
        """What comes until the other side closes."""
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
    """A server of one connection, in a thread: it does with it what the test says, and then closes it."""
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


class Story:
    """A journal that tells what the test gives it, and knows who listens."""

    def __init__(self) -> None:
        self.newest = 0
        self.kept: list[Event] = []
        self.listeners = 0
        self.changed = asyncio.Condition()

    async def tell(self, event: Event) -> None:
        async with self.changed:
            self.kept.append(event)
            self.newest = event.seq
            self.changed.notify_all()

    async def follow(self, since: int, group: str | None = None) -> AsyncIterator[Event]:
        async with self.changed:
            self.listeners += 1
            self.changed.notify_all()
        try:
            told = 0
            while True:
                async with self.changed:
                    await self.changed.wait_for(lambda: len(self.kept) > told)  # noqa: B023
                    fresh, told = self.kept[told:], len(self.kept)
                for event in fresh:
                    if event.seq > since and group in (None, event.group):
                        yield event
        finally:
            async with self.changed:
                self.listeners -= 1
                self.changed.notify_all()

    async def until_listeners(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: self.listeners == count)
