"""Accepts connections: bounded in number, with a timeout for the TLS handshake and for the first request.

A client can open connections before it is authenticated. Connections without a request are closed after a timeout, and
above the limit further ones are rejected, so that unauthenticated clients cannot exhaust memory or file descriptors.
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

CONNECTIONS_MAX = 4096  # concurrent, per address; fewer if the process may open few files
HANDSHAKE_S = 10.0
REJECT_S = 1.0  # timeout of the response to a rejected client, and of the TLS shutdown
REJECTS_MAX = 32  # concurrent; above it, connections are closed without a response
PAUSE_S = 0.1  # before the next attempt when file descriptors or memory run out
KEEPALIVE_S = 60.0
STOP_S = 5.0  # for calls in progress when the server stops

_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\ntoo many connections\n"
)

Handler = Callable[[web.BaseRequest], Any]

_log = logging.getLogger(__name__)


class Acceptor(web.Server):
    """The open connections of one address. A connection without a request within `first_s` is closed."""

    def __init__(self, handler: Handler, *, first_s: float, body_bytes_max: int) -> None:
        super().__init__(
            handler,
            request_factory=self._request,
            keepalive_timeout=KEEPALIVE_S,
            auto_decompress=False,
            access_log=None,
        )
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.connections_max = CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, soft // 4)
        self.handshaking: set[socket.socket] = set()  # during the TLS handshake
        self._first_s = first_s
        self._body_bytes_max = body_bytes_max
        self._deadlines: dict[RequestHandler, asyncio.TimerHandle] = {}

    @property
    def count(self) -> int:
        """The number of open connections, including those in the TLS handshake."""
        return len(self.connections) + len(self.handshaking)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._deadlines[handler] = asyncio.get_running_loop().call_later(self._first_s, handler.force_close)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._cancel_deadline(handler)
        super().connection_lost(handler, exc)

    def _cancel_deadline(self, handler: RequestHandler) -> None:
        timer = self._deadlines.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        """Create aiohttp's request with our limit of the body size."""
        self._cancel_deadline(protocol)
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=self._body_bytes_max)


def _plain() -> None:
    """Return no TLS context: plain connections."""


@contextlib.asynccontextmanager
async def accepting(
    acceptor: Acceptor, sockets: Sequence[socket.socket], context: Callable[[], ssl.SSLContext | None] = _plain
) -> AsyncIterator[None]:
    """Accept connections at these sockets. On exit, accept no more and let open calls finish for `STOP_S`."""
    runner = web.ServerRunner(acceptor, shutdown_timeout=STOP_S)
    await runner.setup()
    accept_task = asyncio.get_running_loop().create_task(_accept_all(acceptor, sockets, context))
    try:
        yield
    finally:
        accept_task.cancel()
        await asyncio.wait({accept_task})
        for each in acceptor.handshaking:  # of tasks that were cancelled before they started
            each.close()
        await runner.cleanup()


async def _accept_all(
    acceptor: Acceptor, sockets: Sequence[socket.socket], context: Callable[[], ssl.SSLContext | None]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in sockets:
            tasks.create_task(_accept(acceptor, each, context, tasks))


async def _accept(
    acceptor: Acceptor, bound: socket.socket, context: Callable[[], ssl.SSLContext | None], tasks: asyncio.TaskGroup
) -> None:
    rejections: set[asyncio.Task[None]] = set()
    bound.setblocking(False)
    while True:
        try:
            connection, _ = bound.accept()
        except BlockingIOError:
            await _until_readable(bound)
            continue
        except OSError as error:
            if error.errno in _SCARCE:
                _log.error("cannot accept connections: %s", error.strerror)
            await asyncio.sleep(PAUSE_S if error.errno in _SCARCE else 0)
            continue
        connection.setblocking(False)
        if acceptor.count < acceptor.connections_max:
            acceptor.handshaking.add(connection)
            tasks.create_task(_serve(acceptor, connection, context()))
        elif len(rejections) < REJECTS_MAX and context() is None:
            rejection = tasks.create_task(_reject(connection))
            rejections.add(rejection)
            rejection.add_done_callback(rejections.discard)
        else:
            connection.close()
        await asyncio.sleep(0)  # let other tasks run


async def _until_readable(bound: socket.socket) -> None:
    """Wait for a connection. `loop.sock_accept` would lose one that arrives during a cancellation, and log an error."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(bound, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(bound)


async def _serve(acceptor: Acceptor, connection: socket.socket, context: ssl.SSLContext | None) -> None:
    bounds = {} if context is None else {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": REJECT_S}
    peer = _name(connection)
    try:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(acceptor, connection, ssl=context, **bounds)
    except Exception as error:  # TLS raises many kinds; none may stop the acceptor
        connection.close()
        _log.info("%s was rejected: %s", peer, error)
    finally:
        acceptor.handshaking.discard(connection)


async def _reject(connection: socket.socket) -> None:
    """Answer 503. Without reading the request first, the client would only see a connection reset."""
    loop = asyncio.get_running_loop()
    with connection, contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(REJECT_S):
            await loop.sock_sendall(connection, _BUSY)
            connection.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(connection, 65536):
                pass


def _name(connection: socket.socket) -> str:
    try:
        peer = connection.getpeername()
    except OSError:
        return "a client that has disconnected"
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local process"
