"""The store in a bucket: who writes what when servers, connections and other writers are not as one would like."""

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
HELD = timedelta(hours=2)
Beside = Callable[..., S3Store]


async def keys(bucket: Bucket) -> list[str]:
    """What is kept of the document, newest first: the revisions' numbers."""
    listing = await bucket.list("infrakit/doc/", after="", limit=5000)
    return [entry.key.rpartition("-")[2] for entry in listing.entries]


def is_write(request: Request) -> bool:
    return bool(request["REQUEST_METHOD"] == "PUT" and "/doc/" in request["PATH_INFO"])


# -- many writers ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_of_many_writers_none_loses_anything(beside: Beside) -> None:
    async def writer(name: int) -> None:
        store = beside(keep={"doc": 2})
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
    reader = beside()
    document = await reader.read(name="doc")
    assert document.revision == WRITERS * EACH
    assert sorted(document.body) == sorted(b"01234567" * EACH)


async def test_a_slow_writer_does_not_believe_a_number_that_others_have_used_and_forgotten(
    server: Server, bucket: Bucket, store: S3Store, monkeypatch: pytest.MonkeyPatch, beside: Beside
) -> None:
    monkeypatch.setattr(s3, "PRUNE_EVERY", 4)
    held, freed = threading.Event(), threading.Event()

    def hold(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        if is_write(request) and not held.is_set():
            held.set()
            assert freed.wait(30)
            return later(HELD)(request, start, serve)
        return serve(request, start)

    others = beside(keep={"doc": 2})
    await others.read(name="doc")
    server.between = hold
    slow = asyncio.create_task(store.replace(name="doc", body=b"slow", expected=0))
    try:
        await asyncio.to_thread(held.wait, 30)
        await write(others, 3)
        server.between = later(HELD)
        await write(others, 1, start=3)
        assert others._pruning is not None
        await others._pruning
        assert await keys(bucket) == ["4", "3"]  # the number is free again
    finally:
        freed.set()
    with pytest.raises(
        errors.OutcomeUnknown, match=r"revision 1 of doc was written 2:00:0\d after the listing before it"
    ):
        await slow
    server.between = None
    assert (await others.read(name="doc")).body == b"4"
    assert [d.revision for d in await others.history(name="doc", limit=9)] == [4, 3]


async def test_what_is_young_is_kept_and_what_is_old_is_removed(
    server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, beside: Beside
) -> None:
    monkeypatch.setattr(s3, "PRUNE_EVERY", 3)
    store = beside(keep={"doc": 2})
    await write(store, 6)
    assert store._pruning is not None
    await store._pruning
    assert await keys(bucket) == ["6", "5", "4", "3", "2", "1"]
    assert [d.revision for d in await store.history(name="doc", limit=9)] == [6, 5]
    server.between = later(HELD)
    await write(store, 3, start=6)
    await store._pruning
    assert await keys(bucket) == ["9", "8"]


async def test_a_write_is_done_though_nothing_can_be_removed(
    server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, beside: Beside
) -> None:
    monkeypatch.setattr(s3, "PRUNE_EVERY", 1)
    store = beside(keep={"doc": 1})
    refuse = answering("403 Forbidden", "AccessDenied", method="DELETE")
    server.between = lambda request, start, serve: refuse(
        request, start, lambda request, start: later(HELD)(request, start, serve)
    )
    await write(store, 3)
    assert store._pruning is not None
    await store._pruning
    assert "DELETE" in {asked.partition(" ")[0] for asked in server.asked}
    assert await keys(bucket) == ["3", "2", "1"]


async def test_a_cancelled_write_is_done_or_not_done(store: S3Store) -> None:
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


# -- the server and the way to it --------------------------------------------------------------------------------------

QUESTIONS: dict[str, Callable[[S3Store], Awaitable[Any]]] = {
    "read": lambda store: store.read(name="doc"),
    "replace": lambda store: store.replace(name="doc", body=b"x", expected=0),
    "history": lambda store: store.history(name="doc", limit=3),
    "watch": lambda store: anext(store.watch(name="doc")),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_server_that_writes_over_what_is_there_is_refused(
    server: Server, bucket: Bucket, store: S3Store, question: str
) -> None:
    def old(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        request.pop("HTTP_IF_NONE_MATCH", None)
        return serve(request, start)

    server.between = old
    for _again in range(2):
        with pytest.raises(errors.Refused, match=r"it overwrites an object .* fencing, would fail"):
            await QUESTIONS[question](store)
    assert await keys(bucket) == []


async def test_a_server_is_tried_once(server: Server, store: S3Store, beside: Beside) -> None:
    other = beside()
    for _again in range(2):
        for each in (store, other):
            await each.read(name="doc")
    assert len([asked for asked in server.asked if asked.endswith("/.probe")]) == 3  # the first makes it


async def test_what_cannot_be_tried_is_not_known(server: Server, store: S3Store) -> None:
    server.between = answering("500 Internal Server Error", "InternalError", method="PUT")
    with pytest.raises(errors.Unreachable, match="InternalError"):
        await store.replace(name="doc", body=b"x", expected=0)


def ended(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """As when the machine at the other end knows nothing of it any more."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), connection.fileno())


class LostAnswers:
    """The first `count` writes are done, and their connections break before the answer; `meanwhile` is called then."""

    def __init__(
        self, count: int, meanwhile: Callable[[], None] = lambda: None, *, end: Callable[[socket.socket], None] = ended
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


async def test_a_write_that_was_sent_again_is_no_conflict_with_itself(server: Server, store: S3Store) -> None:
    await write(store, 2)
    server.between = LostAnswers(1)
    await write(store, 1, start=2)
    assert [asked for asked in server.asked if "PUT" in asked][-2:] == [server.asked[-3]] * 2, "it was sent once only"
    assert [d.body for d in await store.history(name="doc", limit=9)] == [b"3", b"2", b"1"]


@pytest.mark.parametrize("end", [ended, reset])
async def test_a_write_whose_answer_is_lost_for_good_has_no_known_outcome(
    server: Server, store: S3Store, end: Callable[[socket.socket], None]
) -> None:
    await write(store, 2)
    server.between = LostAnswers(2, end=end)
    with pytest.raises(errors.OutcomeUnknown, match="the request was interrupted"):
        await store.replace(name="doc", body=b"3", expected=2)
    assert (await store.read(name="doc")).body == b"3"


async def test_a_write_that_is_found_below_others_has_no_known_outcome(
    server: Server, store: S3Store, beside: Beside
) -> None:
    await write(store, 1)
    other, loop = beside(), asyncio.get_running_loop()
    await other.read(name="doc")
    server.between = LostAnswers(1, lambda: asyncio.run_coroutine_threadsafe(write(other, 1, start=2), loop).result(30))
    with pytest.raises(errors.OutcomeUnknown, match="revision 2 of doc was written, but the newest is already 3"):
        await store.replace(name="doc", body=b"2", expected=1)


async def test_the_same_words_of_another_writer_are_a_conflict(server: Server, store: S3Store, beside: Beside) -> None:
    other, looked, written = beside(), threading.Event(), threading.Event()
    await other.read(name="doc")

    def wait(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        if is_write(request) and not looked.is_set():
            looked.set()
            assert written.wait(30)
        return serve(request, start)

    await store.read(name="doc")
    server.between = wait
    second = asyncio.create_task(store.replace(name="doc", body=b"1", expected=0))
    try:
        await asyncio.to_thread(looked.wait, 30)
        await write(other, 1)
    finally:
        written.set()
    with pytest.raises(errors.Conflict, match="another writer has created revision 1 of doc"):
        await second


async def test_a_write_beside_another_at_the_same_moment_is_a_conflict(server: Server, store: S3Store) -> None:
    await store.read(name="doc")
    server.between = answering("409 Conflict", "ConditionalRequestConflict", method="PUT")
    with pytest.raises(errors.Conflict):
        await store.replace(name="doc", body=b"x", expected=0)


async def test_a_conflict_that_cannot_be_looked_into_has_no_known_outcome(server: Server, store: S3Store) -> None:
    await store.read(name="doc")
    conflict = answering("412 Precondition Failed", "PreconditionFailed", method="PUT")
    failing = answering("500 Internal Server Error", "InternalError")

    def between(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        is_listing = request["REQUEST_METHOD"] == "GET" and "/doc/" not in request["PATH_INFO"]
        return conflict(request, start, serve if is_listing else lambda request, start: failing(request, start, serve))

    server.between = between
    with pytest.raises(errors.OutcomeUnknown, match="InternalError"):
        await store.replace(name="doc", body=b"x", expected=0)
