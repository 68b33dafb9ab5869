"""The server of one unix socket, and optionally TCP: JSON-RPC at `/`, events at `/events`, and optional pages.

Request bodies are limited in size and time, streams and connections in number. A client that disconnects during a call
does not cancel it: the call is carried out.
"""

import asyncio
import contextlib
import functools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from infrakit.rpc import acceptor, caller, info, interfaces, streams, unix
from infrakit.rpc.acceptor import Acceptor
from infrakit.rpc.authentication import Authenticator
from infrakit.rpc.dispatch import Dispatcher
from infrakit.rpc.listen import Listen
from infrakit.rpc.page import Page, Pages
from infrakit.rpc.streams import Follows, Streams
from infrakit.spi import errors
from infrakit.spi.event import Topics
from infrakit.spi.instance import Watches

BODY_BYTES_MAX = 16 * 1024 * 1024
READ_S = 30.0  # timeout of a whole request, and of a connection's first request
NOT_FOUND = "404 page not found\n"


class Server:
    """Serves objects at a unix socket inside its context, and with `listen` on TCP too."""

    def __init__(
        self,
        path: Path,
        objects: Mapping[str, object | tuple[object, ...]],
        *,
        events: Follows | None = None,
        pages: Pages | None = None,
        listen: Listen | None = None,
        read_s: float = READ_S,
    ) -> None:
        if listen is not None:
            listen.check()
        self._path = path
        self._listen = listen
        self._acceptors: list[Acceptor] = []
        self.urls: Sequence[str] = ()  # the TCP addresses, once entered
        self._events = events
        self._read_s = read_s
        self._dispatcher = Dispatcher(objects)
        self._streams = Streams()
        self._routes: dict[str, acceptor.Handler] = {
            **{path: functools.partial(self._page, make) for path, make in (pages or {}).items()},
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
        """The served interfaces, with their versions."""
        return list(self._dispatcher.announced)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return sum(each.count for each in self._acceptors)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            bound = stack.enter_context(unix.bind(self._path))
            remove = functools.partial(self._remove, self._path.stat())
            stack.callback(remove)
            await stack.enter_async_context(acceptor.accepting(self._acceptor(self._local), [bound]))
            if self._listen is not None:
                await self._start_tcp(self._listen, stack)
            self._pid_file.write_text(str(os.getpid()))
            stack.callback(remove)  # runs first on exit, so that new clients do not wait for open calls to finish
            stack.callback(self._streams.end)
            self._open = stack.pop_all()
        return self

    async def _start_tcp(self, listen: Listen, stack: contextlib.AsyncExitStack) -> None:
        authenticator = await asyncio.to_thread(Authenticator, listen)
        sockets = await listen.bind()
        for each in sockets:
            stack.enter_context(each)
        self.urls = [listen.at(each).url for each in sockets]
        tcp = self._acceptor(functools.partial(self._authenticated, authenticator))
        await stack.enter_async_context(acceptor.accepting(tcp, sockets, authenticator.context))
        following = asyncio.get_running_loop().create_task(authenticator.follow())
        stack.callback(following.cancel)

    def _acceptor(self, handler: acceptor.Handler) -> Acceptor:
        created = Acceptor(handler, first_s=self._read_s, body_bytes_max=BODY_BYTES_MAX)
        self._acceptors.append(created)
        return created

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def _remove(self, bound: os.stat_result) -> None:
        """Remove our files, unless another process has put its own socket there.

        This runs while our socket is still open, so that its inode number cannot have been reused.
        """
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self._path.stat(), bound):
                self._path.unlink()
                self._pid_file.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self._path.with_name(self._path.name + ".pid")

    # -- requests --------------------------------------------------------------------------------------------------

    async def _local(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a request at the unix socket, which only its owner can open."""
        connection = request.transport.get_extra_info("socket") if request.transport is not None else None
        if connection is None:
            return web.Response(status=400, text="rpc: the client has disconnected")
        return await self._handle(request, caller.of_unix(connection))

    async def _authenticated(self, authenticator: Authenticator, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a request on TCP, after authentication."""
        refusal = authenticator.refusal(request)
        if refusal is not None:
            return refusal
        peer = authenticator.caller(request)
        if peer is None:
            message = "present a valid client certificate or token\n"
            return web.Response(status=401, text=message, headers={"WWW-Authenticate": "Bearer"})
        return await self._handle(request, peer)

    async def _handle(self, request: web.BaseRequest, peer: caller.Caller) -> web.StreamResponse:
        caller.enter(peer)
        answer = self._routes.get(request.path)
        if answer is None:
            return web.Response(status=404, text=NOT_FOUND)
        response: web.StreamResponse = await answer(request)
        return response

    async def _info(self, request: web.BaseRequest) -> web.Response:
        announced = list(self._dispatcher.announced)
        return _json(info.functions() if request.path.endswith("functions.json") else info.api(announced))

    async def _health(self, _request: web.BaseRequest) -> web.Response:
        return _json(b'{"Healthy":true,"Connections":%d}' % self.connections)

    async def _page(self, make: Callable[[], Awaitable[Page]], request: web.BaseRequest) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, text="this page is read-only\n", headers={"Allow": "GET, HEAD"})
        page = await make()
        headers = {"Content-Type": page.media, "Cache-Control": "no-store"}
        return web.Response(status=page.status, body=page.text.encode(), headers=headers)

    async def _event_stream(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream a topic in the original's format; without a topic, the whole journal in ours."""
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
            return web.Response(status=400, text="rpc: the request was truncated")
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413, text=f"rpc: a request has at most {BODY_BYTES_MAX} bytes")
        return web.Response(body=await self._dispatcher.answer(body), content_type="application/json")

    async def _topic(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream the messages of a topic in the original's format."""
        topic = request.query.get("topic", "")
        try:
            publisher = self._dispatcher.find(interfaces.of(Topics), "")
        except errors.NotFound:
            return web.Response(status=404, text=NOT_FOUND)
        return await self._streams.send(request, streams.encoded(publisher.subscribe(topic=topic)))

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream the hints of a `Watches` plugin, each a JSON text."""
        try:
            plugin = self._dispatcher.find(interfaces.of(Watches), request.query.get("type", ""))
        except errors.NotFound as missing:
            return web.Response(status=404, text=str(missing))
        return await self._streams.send(request, streams.encoded(plugin.watch()))


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
