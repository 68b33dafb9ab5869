"""Misbehaving clients: each gets an error or is disconnected, and other clients are not affected."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from infrakit.rpc.server import BODY_BYTES_MAX, Server
from infrakit.spi.instance import Instance
from infrakit.spi.values import InstanceID
from tests.integration.rpc.daemons import DEADLINE_S, Response, WatchedJournal, call_in_thread, connect, post, rpc
from tests.unit.rpc.plugins import Provider

HELLO = rpc("Handshake.Hello")


async def still_serves(path: Path) -> None:
    assert await call_in_thread(path, Instance.label, instance=InstanceID("i"), labels={}) is None


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_is_a_call(path: Path, method: str) -> None:
    async with connect(path) as client:
        answer = await client.exchange(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert (answer.status, answer.body.decode()) == (405, f"rpc: POST method required, received {method}")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("target", ["/nope", "//", "/info", "/events/", "/%00"])
async def test_other_paths_are_not_found(path: Path, target: str) -> None:
    async with connect(path) as client:
        answer = await client.exchange(post(HELLO).replace(b"POST /", f"POST {target}".encode(), 1))
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("", 200),
        ("Content-Type:", 200),
        ("Content-Type: application/json", 200),
        ("Content-Type: Application/JSON; charset=utf-8", 200),
        ("Content-Type: text/plain", 415),
        ("Content-Type: text/plain; charset=utf-8", 415),
        ("Content-Type: application/json-rpc", 415),
    ],
)
@pytest.mark.usefixtures("server")
async def test_the_content_type_is_json_or_absent(path: Path, header: str, status: int) -> None:
    request = post(HELLO).replace(b"Content-Type: application/json\r\n", header.encode() + b"\r\n" if header else b"")
    async with connect(path) as client:
        answer = await client.exchange(request)
    assert answer.status == status
    if status == 415:
        named = header.removeprefix("Content-Type: ").partition(";")[0]
        assert answer.body.decode() == f"rpc: unrecognized Content-Type: {named}"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("body", [b"", b"garbage", b"[" * 100_000, b"[]", b"\x1f\x8b\x08\x00", b"\xff" * 1000])
async def test_a_body_that_is_not_a_request_gets_an_empty_response(path: Path, body: bytes) -> None:
    async with connect(path) as client:
        answer = await client.exchange(post(body))
        assert (answer.status, answer.body) == (200, b"")
        assert "Objects" in (await client.exchange(post(HELLO))).json["result"]  # on the same connection


@pytest.mark.usefixtures("server")
async def test_a_compressed_body_is_not_decompressed(path: Path) -> None:
    async with connect(path) as client:
        answer = await client.exchange(post(HELLO, "Content-Encoding: gzip"))
    assert answer.json["id"] == 7  # the body is read as it is


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"garbage\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=lambda data: data[:20],
)
async def test_invalid_http_is_refused_and_the_connection_is_closed(path: Path, data: bytes) -> None:
    async with connect(path) as client:
        answer = await client.exchange(data)
        assert answer.status == 400
        assert await client.closed_by_peer() == b""
    await still_serves(path)


async def test_a_body_with_an_invalid_chunk_times_out(path: Path) -> None:
    """The HTTP library neither continues nor reports the error: the read timeout ends the request."""
    chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Server(path, {".": Provider()}, read_s=0.5), connect(path) as client:
        await client.send(chunked)
        await still_serves(path)  # by now the server is reading it
        answer = await client.exchange(b"5\r\nhello\r\nno number\r\n")
        assert answer.status == 408
        await still_serves(path)


@pytest.mark.usefixtures("server")
async def test_an_oversized_body_is_refused_without_reading_it(path: Path, provider: Provider) -> None:
    """Neither with an announced length nor in chunks."""
    async with connect(path) as client:
        await client.send(f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {10 * BODY_BYTES_MAX}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(17):
                await client.send(b"x" * 1024 * 1024)
        refused(await client.answer())
    async with connect(path) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(17):
                await client.send(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        refused(await client.answer())
    assert provider.asked == []
    await still_serves(path)


def refused(answer: Response) -> None:
    assert (answer.status, answer.body.decode()) == (413, f"rpc: a request has at most {BODY_BYTES_MAX} bytes")


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"POST / HT",
        b"POST / HTTP/1.1\r\nHost: h\r\n",
        post(HELLO)[:-10],
        post(HELLO, "Expect: 100-continue")[:-40],
    ],
)
async def test_incomplete_requests_do_not_affect_other_clients(
    path: Path, provider: Provider, beginning: bytes
) -> None:
    async with Server(path, {".": provider}), contextlib.AsyncExitStack() as stack:
        halves = [await stack.enter_async_context(connect(path)) for _ in range(200)]
        for half in halves:
            await half.send(beginning)
        for _ in range(3):
            await still_serves(path)
        await stack.aclose()
        await still_serves(path)
    assert len(provider.asked) == 4


async def test_a_missing_body_times_out(path: Path, provider: Provider) -> None:
    async with Server(path, {".": provider}, read_s=0.05), connect(path) as client:
        answer = await client.exchange(post(HELLO)[:-1])
        assert (answer.status, answer.body) == (408, b"rpc: the request did not arrive within 0 s")
        await still_serves(path)


class Slow(Provider):
    """A provider whose `label` blocks until the test sets `proceed`."""

    def __init__(self) -> None:
        super().__init__()
        self.started = asyncio.Event()
        self.proceed = asyncio.Event()
        self.ended: asyncio.Queue[str] = asyncio.Queue()

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        self.started.set()
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.ended.put_nowait("cancelled")
            raise
        self.ended.put_nowait("done")


async def test_a_disconnect_during_a_call_does_not_cancel_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A creation in progress is completed, so that a retry finds it. No task is left behind."""
    slow = Slow()
    before = asyncio.all_tasks()
    async with Server(path, {".": slow}), asyncio.timeout(DEADLINE_S):
        async with connect(path) as client:
            await client.send(post(rpc("Instance.Label", {"Instance": "i"})))
            await slow.started.wait()
        async with connect(path) as other:  # served meanwhile; by then the server has noticed the disconnect
            assert "result" in (await other.exchange(post(HELLO))).json
        slow.proceed.set()
        assert await slow.ended.get() == "done"
    assert asyncio.all_tasks() == before
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_disconnect_during_a_request_leaves_nothing_behind(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider()
    before = asyncio.all_tasks()
    async with Server(path, {".": provider}):
        async with connect(path) as client:
            await client.send(post(rpc("Instance.Label", {"Instance": "i"}))[:-5])
        await still_serves(path)
    assert asyncio.all_tasks() == before
    assert len(provider.asked) == 1
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_calls_in_progress_complete_when_the_server_stops(path: Path) -> None:
    slow = Slow()
    async with asyncio.timeout(DEADLINE_S), contextlib.AsyncExitStack() as stack:
        server = await Server(path, {".": slow}).__aenter__()
        client = await stack.enter_async_context(connect(path))
        await client.send(post(rpc("Instance.Label", {"Instance": "i"})))
        await slow.started.wait()
        stopping = asyncio.ensure_future(server.__aexit__(None, None, None))
        await asyncio.sleep(0)
        assert not exists(path)  # no new connections
        slow.proceed.set()
        assert (await client.answer()).json["result"] == {"Type": "", "OK": True}
        await stopping


def exists(path: Path) -> bool:
    return path.exists()


async def test_several_requests_on_one_connection(path: Path, journal: WatchedJournal) -> None:
    """Also if they are sent before the first gets a response."""
    async with Server(path, {".": Provider()}, events=journal), connect(path) as client:
        await client.send(b"".join(post(rpc("Handshake.Hello", id_=n)) for n in range(50)))
        assert [(await client.answer()).json["id"] for _ in range(50)] == list(range(50))
