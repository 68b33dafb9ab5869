"""The server of one socket: JSON-RPC at `/`, events at `/events`.

The socket is bound by hand: readable by its owner only, a stale one (nobody answers) is replaced, a live one is never
stolen. Bodies are bounded in size and time, streams in number. Who leaves during a call does not end it: what was
begun is carried out.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from infrakit.rpc import caller, discovery, info, interfaces, streams
from infrakit.rpc.dispatch import Dispatcher
from infrakit.rpc.streams import Follows, Streams
from infrakit.spi import errors
from infrakit.spi.event import Topics
from infrakit.spi.instance import Watches

BODY_BYTES_MAX = 16 * 1024 * 1024
BACKLOG = 1024  # connections not yet taken up; the kernel turns away more at once, which looks like no daemon
KEEPALIVE_S = 60.0
READ_S = 30.0  # for a whole request
NOT_FOUND = "404 page not found\n"
STOP_S = 5.0  # for calls under way when the server stops


class Server:
    """Serves objects at a unix socket while entered."""

    def __init__(
        self,
        path: Path,
        objects: Mapping[str, object | tuple[object, ...]],
        *,
        events: Follows | None = None,
        read_s: float = READ_S,
    ) -> None:
        self._path = path
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
            bound = stack.enter_context(bind(self._path))
            server = web.Server(
                self._handle,
                request_factory=_request,
                keepalive_timeout=KEEPALIVE_S,
                auto_decompress=False,
                access_log=None,
            )
            runner = web.ServerRunner(server, shutdown_timeout=STOP_S)
            stack.push_async_callback(runner.cleanup)
            stack.callback(self._remove, self._path.stat())
            await runner.setup()
            await web.SockSite(runner, bound, backlog=BACKLOG).start()
            stack.callback(self._streams.end)
            self._pid_file.write_text(str(os.getpid()))
            self._open = stack.pop_all()
        return self

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
        caller.enter(_caller(request))
        answer = self._routes.get(request.path)
        if answer is None:
            return web.Response(status=404, text=NOT_FOUND)
        return await answer(request)

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


def _caller(request: web.BaseRequest) -> caller.Caller:
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None or connection.family != socket.AF_UNIX:
        return caller.Caller()
    return caller.of_unix(connection)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """aiohttp's own request, with our limit of the body instead of its."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_BYTES_MAX)


def bind(path: Path) -> socket.socket:
    """A listening socket with mode 0600 in a directory with mode 0700. Raises `Refused` if somebody listens there."""
    discovery.check_length(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone_in(path.parent):
        _make_room(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            bound.bind(str(path))
            bound.listen(BACKLOG)  # at once, because a socket that does not listen looks stale to others
        except OSError as error:
            bound.close()
            raise errors.Refused(f"{path} cannot be bound: {error.strerror}") from None
        finally:
            os.umask(before)
    bound.setblocking(False)
    return bound


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Two that start at the same time must not both find a stale socket: the later would replace the live one."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_room(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket() and not path.is_symlink():
        raise errors.Refused(f"{path} is in the way: it is no socket", remedy="move it elsewhere")
    if _answers(path):
        raise errors.Refused(
            f"another process listens at {path}",
            remedy="end it first (infrakit plugin stop, or infrakit down), or use another INFRAKIT_HOME",
        )
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it is there and does not answer now: not ours to take
        return True
