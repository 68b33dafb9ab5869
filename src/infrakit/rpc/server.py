"""The server of one socket: JSON-RPC at `/`, events at `/events`.

The socket is bound by hand: readable by its owner only, a stale one (nobody answers) is replaced, a live one is never
stolen. Bodies, connections and streams are bounded.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from aiohttp import web

from infrakit.rpc import discovery
from infrakit.rpc.dispatch import Dispatcher
from infrakit.spi import errors
from infrakit.spi.event import Event

BODY_BYTES_MAX = 16 * 1024 * 1024
STREAMS_MAX = 64
BACKLOG = 128
KEEPALIVE_S = 60.0
HEARTBEAT_S = 15.0
STOP_S = 5.0  # for calls under way when the server stops


class Follows(Protocol):
    """Where events come from. `events.journal.Journal` is one."""

    newest: int

    def follow(self, since: int, group: str | None = None) -> AsyncIterator[Event]:
        """The events after `since`, and then each as it comes."""
        ...


class Server:
    """Serves objects at a unix socket while entered."""

    def __init__(self, path: Path, objects: Mapping[str, object], *, events: Follows | None = None) -> None:
        self._path = path
        self._events = events
        self._dispatcher = Dispatcher(objects)
        self._streams: set[asyncio.Task[object]] = set()
        self._runner: web.ServerRunner | None = None
        self._bound: os.stat_result | None = None

    async def __aenter__(self) -> Self:
        bound = bind(self._path)
        self._bound = self._path.stat()
        server = web.Server(
            self._handle,
            request_factory=_request,
            keepalive_timeout=KEEPALIVE_S,
            auto_decompress=False,
            access_log=None,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_S)
        await self._runner.setup()
        await web.SockSite(self._runner, bound, backlog=BACKLOG).start()
        self._pid_file.write_text(str(os.getpid()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams:
            stream.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        with contextlib.suppress(FileNotFoundError):
            if self._bound is not None and os.path.samestat(self._path.stat(), self._bound):
                self._path.unlink()
                self._pid_file.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self._path.with_name(self._path.name + ".pid")

    # -- requests --------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/":
            return await self._call(request)
        if request.path == "/events" and self._events is not None:
            return await self._stream(request, self._events)
        return web.Response(status=404, text="404 page not found\n")

    async def _call(self, request: web.BaseRequest) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405, text=f"rpc: POST method required, received {request.method}")
        content_type = request.headers.get("Content-Type", "application/json")
        if content_type.partition(";")[0].strip().lower() != "application/json":
            return web.Response(status=415, text=f"rpc: unrecognized Content-Type: {content_type}")
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413, text=f"rpc: a request has at most {BODY_BYTES_MAX} bytes")
        return web.Response(body=await self._dispatcher.answer(body), content_type="application/json")

    async def _stream(self, request: web.BaseRequest, events: Follows) -> web.StreamResponse:
        """Server-sent events; a comment now and then, so that either side notices when the other has left."""
        since = request.query.get("since", "")
        if len(self._streams) >= STREAMS_MAX:
            return web.Response(status=503, text="too many event streams")
        if since and not since.isdigit():
            return web.Response(status=400, text="since is the number of an event")
        follow = request.query.get("follow", "true") == "true"
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Connection": "keep-alive"}
        )
        task = asyncio.current_task()
        if task is not None:
            self._streams.add(task)
        try:
            await response.prepare(request)
            await response.write(b": infrakit\n\n")
            start = int(since) if since else events.newest
            await self._send(response, events, start, request.query.get("group"), follow=follow)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the reader has left, or the server stops
        finally:
            if task is not None:
                self._streams.discard(task)
        return response

    async def _send(
        self, response: web.StreamResponse, events: Follows, since: int, group: str | None, *, follow: bool
    ) -> None:
        last = events.newest
        stream = events.follow(since, group)
        upcoming: asyncio.Task[Event] | None = None
        try:
            while follow or since < last:
                if upcoming is None:
                    upcoming = asyncio.ensure_future(anext(stream))
                done, _ = await asyncio.wait({upcoming}, timeout=HEARTBEAT_S if follow else 0.2)
                if not done:
                    if not follow:
                        return
                    await response.write(b":\n\n")
                    continue
                event, upcoming = upcoming.result(), None
                since = event.seq or since
                await response.write(b"data: " + msgspec.json.encode(event) + b"\n\n")
        finally:
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait({upcoming})
            await stream.aclose()  # type: ignore[attr-defined]


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """aiohttp's own request, with our limit of the body instead of its."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_BYTES_MAX)


def bind(path: Path) -> socket.socket:
    """A listening socket with mode 0600 in a directory with mode 0700. Raises `Refused` if somebody listens there."""
    discovery.check_length(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() or path.is_symlink():
        if _answers(path):
            raise errors.Refused(
                f"another process listens at {path}",
                remedy="stop it first (infrakit down), or use another INFRAKIT_HOME",
            )
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        raise errors.Refused(f"{path} cannot be bound: {error.strerror}") from None
    finally:
        os.umask(before)
    bound.setblocking(False)
    return bound


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
