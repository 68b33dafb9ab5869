"""The server of one socket, and of TCP beside it: JSON-RPC at `/`, events at `/events`.

Bodies are bounded in size and time, streams and connections in number. Who leaves during a call does not end it: what
was begun is carried out.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from infrakit.rpc import caller, info, interfaces, streams, tls, tokens, unix
from infrakit.rpc.dispatch import Dispatcher
from infrakit.rpc.listen import Listen
from infrakit.rpc.streams import Follows, Streams
from infrakit.rpc.tokens import Tokens
from infrakit.spi import errors
from infrakit.spi.event import Topics
from infrakit.spi.instance import Watches

BODY_BYTES_MAX = 16 * 1024 * 1024
CONNECTIONS_MAX = 4096  # at once; who comes after that is turned away
KEEPALIVE_S = 60.0
READ_S = 30.0  # for a whole request
NOT_FOUND = "404 page not found\n"
STOP_S = 5.0  # for calls under way when the server stops


class Server:
    """Serves objects at a unix socket while entered, and with `listen` on TCP too."""

    def __init__(
        self,
        path: Path,
        objects: Mapping[str, object | tuple[object, ...]],
        *,
        events: Follows | None = None,
        listen: Listen | None = None,
        read_s: float = READ_S,
    ) -> None:
        if listen is not None:
            listen.check()
        self._path = path
        self._listen = listen
        self._tokens: Tokens | None = None
        self._server: web.Server | None = None
        self._events = events
        self._read_s = read_s
        self._dispatcher = Dispatcher(objects)
        self._streams = Streams()
        self._routes = {
            "/": self._call,
            "/events": self._event_stream,
            "/watch": self._watch,
            "/info/api.json": self._info,
            "/info/functions.json": self._info,
            "/health": self._health,
        }
        self._open = contextlib.AsyncExitStack()

    @property
    def announced(self) -> Sequence[str]:
        """The interfaces that it serves, with their versions."""
        return list(self._dispatcher.announced)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            bound = stack.enter_context(unix.bind(self._path))
            server = web.Server(
                self._handle,
                request_factory=_request,
                keepalive_timeout=KEEPALIVE_S,
                auto_decompress=False,
                access_log=None,
            )
            self._server = server
            runner = web.ServerRunner(server, shutdown_timeout=STOP_S)
            stack.push_async_callback(runner.cleanup)
            stack.callback(self._remove, self._path.stat())
            await runner.setup()
            await web.SockSite(runner, bound, backlog=unix.BACKLOG).start()
            stack.callback(self._streams.end)
            self._pid_file.write_text(str(os.getpid()))
            if self._listen is not None:
                await self._start_tcp(self._listen, runner, stack)
            self._open = stack.pop_all()
        return self

    async def _start_tcp(self, listen: Listen, runner: web.ServerRunner, stack: contextlib.AsyncExitStack) -> None:
        self._tokens, context = listen.tokens(), listen.context()
        try:
            await web.TCPSite(runner, listen.host, listen.port, ssl_context=context, backlog=unix.BACKLOG).start()
        except OSError as error:
            raise errors.Refused(f"{listen.url} cannot be listened at: {error.strerror}") from None
        if context is not None and listen.tls is not None:
            renewing = asyncio.get_running_loop().create_task(tls.renew(context, listen.tls))
            stack.callback(renewing.cancel)
        if self._tokens is not None:
            reading = asyncio.get_running_loop().create_task(tokens.renew(self._tokens))
            stack.callback(reading.cancel)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def _remove(self, bound: os.stat_result) -> None:
        """Remove our files, unless somebody has put a socket of their own in that place.

        Done while ours is still open, so that no other file can have been given its number.
        """
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self._path.stat(), bound):
                self._path.unlink()
                self._pid_file.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self._path.with_name(self._path.name + ".pid")

    # -- requests --------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._server is not None and len(self._server.connections) > CONNECTIONS_MAX:
            busy = web.Response(status=503, text="too many connections\n")
            busy.force_close()
            return busy
        known = self._caller(request)
        if known is None:
            return web.Response(status=401, text="show a certificate or a token that is known here\n")
        caller.enter(known)
        answer = self._routes.get(request.path)
        if answer is None:
            return web.Response(status=404, text=NOT_FOUND)
        return await answer(request)

    def _caller(self, request: web.BaseRequest) -> caller.Caller | None:
        """Who calls. None: somebody over TCP who ought to show something, and does not."""
        transport = request.transport
        connection = transport.get_extra_info("socket") if transport is not None else None
        if transport is None or connection is None:  # it has left already
            return None
        if connection.family == socket.AF_UNIX:
            return caller.of_unix(connection)
        if name := tls.name_of(transport.get_extra_info("peercert")):
            return caller.Caller(name, "certificate")
        if self._tokens is None:
            return caller.Caller()
        name = self._tokens.name(request.headers.get("Authorization", ""))
        return caller.Caller(name, "token") if name else None

    async def _info(self, request: web.BaseRequest) -> web.Response:
        announced = list(self._dispatcher.announced)
        return _json(info.functions() if request.path.endswith("functions.json") else info.api(announced))

    async def _health(self, _request: web.BaseRequest) -> web.Response:
        return _json(b'{"Healthy":true}')

    async def _event_stream(self, request: web.BaseRequest) -> web.StreamResponse:
        """On a topic in the original's shape; without one, the whole journal in ours."""
        if "topic" not in request.query and self._events is not None:
            return await self._streams.events(request, self._events)
        return await self._topic(request)

    async def _call(self, request: web.BaseRequest) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405, text=f"rpc: POST method required, received {request.method}")
        content_type = request.headers.get("Content-Type", "").partition(";")[0].strip()
        if content_type.lower() not in ("", "application/json"):
            return web.Response(status=415, text=f"rpc: unrecognized Content-Type: {content_type}")
        try:
            async with asyncio.timeout(self._read_s):
                body = await request.read()
        except TimeoutError:
            return web.Response(status=408, text=f"rpc: the request did not arrive within {self._read_s:.0f} s")
        except ConnectionError:
            return web.Response(status=400, text="rpc: the request broke off")
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413, text=f"rpc: a request has at most {BODY_BYTES_MAX} bytes")
        return web.Response(body=await self._dispatcher.answer(body), content_type="application/json")

    async def _topic(self, request: web.BaseRequest) -> web.StreamResponse:
        """What is published on a topic, in the original's shape."""
        topic = request.query.get("topic", "")
        try:
            publisher = self._dispatcher.find(interfaces.of(Topics), "")
        except errors.NotFound:
            return web.Response(status=404, text=NOT_FOUND)
        return await self._streams.send(request, streams.encoded(publisher.subscribe(topic=topic)))

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        """The hints of a provider that watches, each a JSON text: what `rpc.client` reads as `Watches`."""
        try:
            plugin = self._dispatcher.find(interfaces.of(Watches), request.query.get("type", ""))
        except errors.NotFound as missing:
            return web.Response(status=404, text=str(missing))
        return await self._streams.send(request, streams.encoded(plugin.watch()))


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """aiohttp's own request, with our limit of the body instead of its."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_BYTES_MAX)
