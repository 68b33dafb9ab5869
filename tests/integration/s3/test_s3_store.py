"""The store in a bucket: concurrent writers, lost connections, and faulty servers."""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

import pytest

from infrakit.clients.s3 import Bucket
from infrakit.spi import errors
from infrakit.spi.store import Document
from infrakit.stores import s3
from infrakit.stores.s3 import S3Store
from tests.integration.s3.buckets import Request, Server, answering, later, needs_s3, write

pytestmark = needs_s3

WRITERS, EACH = 8, 50
DELAY = timedelta(hours=2)
OpenStore = Callable[..., S3Store]


async def keys(bucket: Bucket) -> list[str]:
    """The numbers of the stored revisions of the document, newest first."""
    listing = await bucket.list("infrakit/doc/", after="", limit=5000)
    return [entry.key.rpartition("-")[2] for entry in listing.entries]


def is_write(request: Request) -> bool:
    return bool(request["REQUEST_METHOD"] == "PUT" and "/doc/" in request["PATH_INFO"])


# -- many writers ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_concurrent_writers_lose_nothing(open_store: OpenStore) -> None:
    async def writer(name: int) -> None:
        store = open_store(keep={"doc": 2})
        seen, left = await store.read(name="doc"), EACH
        while left:
            body = seen.body + b"%d" % name
            try:
                revision = await store.replace(name="doc", body=body, expected=seen.revision)
            except errors.Conflict:
                seen = await store.read(name="doc")
            else:
                seen, left = Document(name="doc", revision=revision, body=body), left - 1

    async with asyncio.TaskGroup() as tasks:
        for name in range(WRITERS):
            tasks.create_task(writer(name))
    reader = open_store()
    document = await reader.read(name="doc")
    assert document.revision == WRITERS * EACH
    assert sorted(document.body) == sorted(b"01234567" * EACH)


async def test_a_delayed_write_of_a_pruned_revision_has_an_unknown_outcome(
    server: Server, bucket: Bucket, store: S3Store, monkeypatch: pytest.MonkeyPatch, open_store: OpenStore
) -> None:
    monkeypatch.setattr(s3, "PRUNE_EVERY", 4)
    delayed, released = threading.Event(), threading.Event()

    def delay(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        if is_write(request) and not delayed.is_set():
            delayed.set()
            assert released.wait(30)
            return later(DELAY)(request, start, serve)
        return serve(request, start)

    others = open_store(keep={"doc": 2})
    await others.read(name="doc")
    server.middleware = delay
    slow = asyncio.create_task(store.replace(name="doc", body=b"slow", expected=0))
    try:
        await asyncio.to_thread(delayed.wait, 30)
        await write(others, 3)
        server.middleware = later(DELAY)
        await write(others, 1, start=3)
        assert others._pruning is not None
        await others._pruning
        assert await keys(bucket) == ["4", "3"]  # revision 1 is pruned
    finally:
        released.set()
    with pytest.raises(
        errors.OutcomeUnknown, match=r"revision 1 of doc was written 2:00:0\d after the listing before it"
    ):
        await slow
    server.middleware = None
    assert (await others.read(name="doc")).body == b"4"
    assert [d.revision for d in await others.history(name="doc", limit=9)] == [4, 3]


async def test_recent_revisions_are_kept_and_old_ones_are_pruned(
    server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, open_store: OpenStore
) -> None:
    monkeypatch.setattr(s3, "PRUNE_EVERY", 3)
    store = open_store(keep={"doc": 2})
    await write(store, 6)
    assert store._pruning is not None
    await store._pruning
    assert await keys(bucket) == ["6", "5", "4", "3", "2", "1"]
    assert [d.revision for d in await store.history(name="doc", limit=9)] == [6, 5]
    server.middleware = later(DELAY)
    await write(store, 3, start=6)
    await store._pruning
    assert await keys(bucket) == ["9", "8"]


async def test_a_write_succeeds_even_if_pruning_fails(
    server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, open_store: OpenStore
) -> None:
    monkeypatch.setattr(s3, "PRUNE_EVERY", 1)
    store = open_store(keep={"doc": 1})
    forbid = answering("403 Forbidden", "AccessDenied", method="DELETE")
    server.middleware = lambda request, start, serve: forbid(
        request, start, lambda request, start: later(DELAY)(request, start, serve)
    )
    await write(store, 3)
    assert store._pruning is not None
    await store._pruning
    assert "DELETE" in {each.partition(" ")[0] for each in server.requests}
    assert await keys(bucket) == ["3", "2", "1"]


async def test_a_cancelled_write_is_atomic(store: S3Store) -> None:
    for number in range(20):
        before = await store.read(name="doc")
        writing = asyncio.create_task(store.replace(name="doc", body=b"%d" % number, expected=before.revision))
        for _turn in range(number):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait({writing})
    newest = (await store.read(name="doc")).revision
    assert [d.revision for d in await store.history(name="doc", limit=16)] == list(
        range(newest, max(0, newest - 16), -1)
    )


# -- faulty servers and connections ------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[S3Store], Awaitable[Any]]] = {
    "read": lambda store: store.read(name="doc"),
    "replace": lambda store: store.replace(name="doc", body=b"x", expected=0),
    "history": lambda store: store.history(name="doc", limit=3),
    "watch": lambda store: anext(store.watch(name="doc")),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_ignores_conditional_writes_is_refused(
    server: Server, bucket: Bucket, store: S3Store, call: str
) -> None:
    def unconditional(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        request.pop("HTTP_IF_NONE_MATCH", None)
        return serve(request, start)

    server.middleware = unconditional
    for _again in range(2):
        with pytest.raises(
            errors.Refused, match=r"it ignores If-None-Match and overwrites objects.* fencing, would fail"
        ):
            await CALLS[call](store)
    assert await keys(bucket) == []


async def test_a_server_is_probed_once(server: Server, store: S3Store, open_store: OpenStore) -> None:
    other = open_store()
    for _again in range(2):
        for each in (store, other):
            await each.read(name="doc")
    assert len([each for each in server.requests if each.endswith("/.probe")]) == 3  # the first one creates it


async def test_a_server_that_cannot_be_probed_is_unreachable(server: Server, store: S3Store) -> None:
    server.middleware = answering("500 Internal Server Error", "InternalError", method="PUT")
    with pytest.raises(errors.Unreachable, match="InternalError"):
        await store.replace(name="doc", body=b"x", expected=0)


def closed(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """Reset the connection, like a machine that has restarted and does not know it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), connection.fileno())


class LostResponses:
    """The first `count` writes are stored, `meanwhile` is called, and the connections break before the response."""

    def __init__(
        self, count: int, meanwhile: Callable[[], None] = lambda: None, *, end: Callable[[socket.socket], None] = closed
    ) -> None:
        self.left = count
        self._meanwhile = meanwhile
        self._end = end

    def __call__(self, request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        if not self.left or not is_write(request):
            return serve(request, start)
        self.left -= 1
        serve(request, lambda *_: lambda _: None)
        self._meanwhile()
        self._end(request["werkzeug.socket"])
        raise ConnectionResetError


async def test_a_retried_write_does_not_conflict_with_itself(server: Server, store: S3Store) -> None:
    await write(store, 2)
    server.middleware = LostResponses(1)
    await write(store, 1, start=2)
    assert [each for each in server.requests if "PUT" in each][-2:] == [server.requests[-3]] * 2, (
        "it was sent only once"
    )
    assert [d.body for d in await store.history(name="doc", limit=9)] == [b"3", b"2", b"1"]


@pytest.mark.parametrize("end", [closed, reset])
async def test_a_write_whose_response_is_lost_has_an_unknown_outcome(
    server: Server, store: S3Store, end: Callable[[socket.socket], None]
) -> None:
    await write(store, 2)
    server.middleware = LostResponses(2, end=end)
    with pytest.raises(errors.OutcomeUnknown, match="the request was interrupted"):
        await store.replace(name="doc", body=b"3", expected=2)
    assert (await store.read(name="doc")).body == b"3"


async def test_a_write_that_is_found_below_a_newer_revision_has_an_unknown_outcome(
    server: Server, store: S3Store, open_store: OpenStore
) -> None:
    await write(store, 1)
    other, loop = open_store(), asyncio.get_running_loop()
    await other.read(name="doc")
    server.middleware = LostResponses(
        1, lambda: asyncio.run_coroutine_threadsafe(write(other, 1, start=2), loop).result(30)
    )
    with pytest.raises(errors.OutcomeUnknown, match="revision 2 of doc was written, but the newest is already 3"):
        await store.replace(name="doc", body=b"2", expected=1)


async def test_the_same_body_of_another_writer_is_a_conflict(
    server: Server, store: S3Store, open_store: OpenStore
) -> None:
    other, waiting, written = open_store(), threading.Event(), threading.Event()
    await other.read(name="doc")

    def wait(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        if is_write(request) and not waiting.is_set():
            waiting.set()
            assert written.wait(30)
        return serve(request, start)

    await store.read(name="doc")
    server.middleware = wait
    second = asyncio.create_task(store.replace(name="doc", body=b"1", expected=0))
    try:
        await asyncio.to_thread(waiting.wait, 30)
        await write(other, 1)
    finally:
        written.set()
    with pytest.raises(errors.Conflict, match="another writer has created revision 1 of doc"):
        await second


async def test_a_simultaneous_conditional_write_is_a_conflict(server: Server, store: S3Store) -> None:
    await store.read(name="doc")
    server.middleware = answering("409 Conflict", "ConditionalRequestConflict", method="PUT")
    with pytest.raises(errors.Conflict):
        await store.replace(name="doc", body=b"x", expected=0)


async def test_a_conflict_that_cannot_be_examined_has_an_unknown_outcome(server: Server, store: S3Store) -> None:
    await store.read(name="doc")
    conflict = answering("412 Precondition Failed", "PreconditionFailed", method="PUT")
    failing = answering("500 Internal Server Error", "InternalError")

    def middleware(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        is_listing = request["REQUEST_METHOD"] == "GET" and "/doc/" not in request["PATH_INFO"]
        return conflict(request, start, serve if is_listing else lambda request, start: failing(request, start, serve))

    server.middleware = middleware
    with pytest.raises(errors.OutcomeUnknown, match="InternalError"):
        await store.replace(name="doc", body=b"x", expected=0)
