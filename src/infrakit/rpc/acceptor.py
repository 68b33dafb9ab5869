"""Connections, taken up one by one: bounded in number, with a deadline for the handshake and for the first request.

Strangers can open connections before anybody knows who they are. Those that say nothing are closed, and when too many
are open the next are turned away, so that neither memory nor file descriptors run out for those who are known.
"""

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

CONNECTIONS_MAX = 4096  # at one address, at once; fewer where the process may open few files
HANDSHAKE_S = 10.0
GOODBYE_S = 1.0  # for a caller to read that it is turned away, and for the end of TLS
GOODBYES_MAX = 32  # at once; the others are turned away without a word
PAUSE_S = 0.1  # when no file can be opened
KEEPALIVE_S = 60.0
STOP_S = 5.0  # for calls under way when the server stops

_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\ntoo many connections\n"
)

Handler = Callable[[web.BaseRequest], Any]

_log = logging.getLogger(__name__)


class Door(web.Server):
    """The open connections of an address. Those that have not asked anything within `first_s` are closed."""

    def __init__(self, handler: Handler, *, first_s: float, body_bytes_max: int) -> None:
        super().__init__(
            handler,
            request_factory=self._request,
            keepalive_timeout=KEEPALIVE_S,
            auto_decompress=False,
            access_log=None,
        )
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, soft // 4)
        self.arriving: set[socket.socket] = set()  # in their handshake
        self._first_s = first_s
        self._body_bytes_max = body_bytes_max
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}

    @property
    def count(self) -> int:
        """Connections that are open, also those in their handshake."""
        return len(self.connections) + len(self.arriving)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._silent[handler] = asyncio.get_running_loop().call_later(self._first_s, handler.force_close)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._heard(handler)
        super().connection_lost(handler, exc)

    def _heard(self, handler: RequestHandler) -> None:
        timer = self._silent.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        """aiohttp's own request, with our limit of the body instead of its."""
        self._heard(protocol)
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=self._body_bytes_max)


def _plain() -> None:
    """No TLS."""


@contextlib.asynccontextmanager
async def accepting(
    door: Door, sockets: Sequence[socket.socket], context: Callable[[], ssl.SSLContext | None] = _plain
) -> AsyncIterator[None]:
    """Take up connections at these sockets. In the end nobody new is let in, and who is in may finish."""
    runner = web.ServerRunner(door, shutdown_timeout=STOP_S)
    await runner.setup()
    taking = asyncio.get_running_loop().create_task(_take_up(door, sockets, context))
    try:
        yield
    finally:
        taking.cancel()
        await asyncio.wait({taking})
        for each in door.arriving:  # of tasks that were ended before they began
            each.close()
        await runner.cleanup()


async def _take_up(door: Door, sockets: Sequence[socket.socket], context: Callable[[], ssl.SSLContext | None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in sockets:
            tasks.create_task(_listen(door, each, context, tasks))


async def _listen(
    door: Door, bound: socket.socket, context: Callable[[], ssl.SSLContext | None], tasks: asyncio.TaskGroup
) -> None:
    goodbyes: set[asyncio.Task[None]] = set()
    bound.setblocking(False)
    while True:
        try:
            connection, _ = bound.accept()
        except BlockingIOError:
            await _until_readable(bound)
            continue
        except OSError as error:
            if error.errno in _SCARCE:
                _log.error("no connection can be taken up: %s", error.strerror)
            await asyncio.sleep(PAUSE_S if error.errno in _SCARCE else 0)
            continue
        connection.setblocking(False)
        if door.count < door.most:
            door.arriving.add(connection)
            tasks.create_task(_let_in(door, connection, context()))
        elif len(goodbyes) < GOODBYES_MAX and context() is None:
            goodbye = tasks.create_task(_turn_away(connection))
            goodbyes.add(goodbye)
            goodbye.add_done_callback(goodbyes.discard)
        else:
            connection.close()
        await asyncio.sleep(0)  # others may have waited longer


async def _until_readable(bound: socket.socket) -> None:
    """`loop.sock_accept` would lose a connection that comes while it is cancelled, and complain about it."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(bound, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(bound)


async def _let_in(door: Door, connection: socket.socket, context: ssl.SSLContext | None) -> None:
    bounds = {} if context is None else {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": GOODBYE_S}
    peer = _name(connection)
    try:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(door, connection, ssl=context, **bounds)
    except Exception as error:  # TLS libraries know many; none of them may end the others' service
        connection.close()
        _log.info("%s was not let in: %s", peer, error)
    finally:
        door.arriving.discard(connection)


async def _turn_away(connection: socket.socket) -> None:
    """Closed at once, with its request unread, a caller would be told nothing but that the connection broke."""
    loop = asyncio.get_running_loop()
    with connection, contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(GOODBYE_S):
            await loop.sock_sendall(connection, _BUSY)
            connection.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(connection, 65536):
                pass


def _name(connection: socket.socket) -> str:
    try:
        peer = connection.getpeername()
    except OSError:
        return "somebody who has left"
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a process of this machine"
