"""The journal over the socket: what is kept, what comes, and readers that leave."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrakit.rpc import call
from infrakit.rpc.server import Server
from infrakit.rpc.streams import STREAMS_MAX
from infrakit.spi import errors
from infrakit.spi.event import Event
from infrakit.spi.values import GroupID
from tests.integration.rpc.daemons import DEADLINE_S, Connection, WatchedJournal, answers, connect, misbehaving

pytestmark = pytest.mark.usefixtures("server")


def get(query: str = "") -> bytes:
    return f"GET /events{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


async def read(path: Path, *, since: int | None, group: str | None = None) -> list[str]:
    """What our client finds kept."""
    named = GroupID(group) if group else None
    return await asyncio.to_thread(
        lambda: [e.message for e in call.events(path, since=since, group=named, follow=False)]
    )


async def one(events: Iterator[Event]) -> str:
    async with asyncio.timeout(DEADLINE_S):
        return (await asyncio.to_thread(next, events)).message


async def until(client: Connection, words: bytes) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        return await client.reader.readuntil(words)


async def test_what_is_kept_is_read_to_its_end(path: Path, journal: WatchedJournal) -> None:
    assert await read(path, since=0) == []
    told = [journal.tell(f"{n}", group="web" if n % 2 else "store") for n in range(1, 6)]
    assert await asyncio.to_thread(lambda: list(call.events(path, since=0, group=None, follow=False))) == told
    assert await read(path, since=3) == ["4", "5"]
    assert await read(path, since=5) == []
    assert await read(path, since=99) == []
    assert await read(path, since=None) == []
    assert await read(path, since=0, group="web") == ["1", "3", "5"]
    assert await read(path, since=0, group="nobody's & nothing") == []


async def test_followers_see_what_was_and_what_comes(path: Path, journal: WatchedJournal) -> None:
    journal.tell("before")
    with contextlib.closing(call.events(path, since=0, group=None, follow=True)) as events:
        assert await one(events) == "before"
        for words in ("fresh", "ä\n<&>", "last"):
            journal.tell(words)
            assert await one(events) == words


async def test_without_a_number_only_what_comes(path: Path, journal: WatchedJournal) -> None:
    journal.tell("before")
    with contextlib.closing(call.events(path, since=None, group=None, follow=True)) as events:
        first = asyncio.ensure_future(one(events))
        await journal.until_listeners(1)
        journal.tell("fresh")
        assert await first == "fresh"


async def test_followers_of_a_group_see_no_other(path: Path, journal: WatchedJournal) -> None:
    with contextlib.closing(call.events(path, since=0, group=GroupID("web"), follow=True)) as events:
        for n in range(5):
            journal.tell(f"store {n}", group="store")
        journal.tell("mine")
        assert await one(events) == "mine"


async def test_the_stream_is_server_sent_events(path: Path, journal: WatchedJournal) -> None:
    journal.tell("one")
    async with connect(path) as client:
        await client.send(get("?since=0"))
        head = (await until(client, b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200")
        for header in (b"content-type: text/event-stream", b"cache-control: no-cache", b"transfer-encoding: chunked"):
            assert header in head
        assert b'data: {"Seq":1,' in await until(client, b'"Message":"one"}\n\n')
        assert b"\n:\n\n" in await until(client, b":\n\n")  # nothing happens: a sign of life


async def test_a_reader_that_leaves_is_forgotten(path: Path, journal: WatchedJournal) -> None:
    """Though nothing happens that could be written to it."""
    async with connect(path) as client:
        await client.send(get())
        await journal.until_listeners(1)
    await journal.until_listeners(0)


async def test_readers_are_bounded_and_calls_go_on(path: Path, journal: WatchedJournal) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(STREAMS_MAX):
            client = await stack.enter_async_context(connect(path))
            await client.send(get())
        await journal.until_listeners(STREAMS_MAX)
        with pytest.raises(errors.Refused, match="too many event streams"):
            await read(path, since=0)
    await journal.until_listeners(0)
    assert await read(path, since=0) == []


@pytest.mark.parametrize("since", ["x", "-1", "1.5", "%C2%B2", "%D9%A3", "9" * 5000, "1%0A"])
async def test_a_wrong_number_is_refused(path: Path, since: str) -> None:
    async with connect(path) as client:
        answer = await client.exchange(get(f"?since={since}"))
    assert (answer.status, answer.body) == (400, b"since must be the number of an event")


async def test_streams_end_when_the_server_stops(path: Path, journal: WatchedJournal) -> None:
    other = path.with_name("q")
    async with contextlib.AsyncExitStack() as stack:
        async with Server(other, {}, events=journal):
            client = await stack.enter_async_context(connect(other))
            await client.send(get())
            await journal.until_listeners(1)
        assert journal.listeners == 0
        assert (await client.closed_by_peer()).endswith(b"0\r\n\r\n")


async def test_without_a_journal_there_are_no_events(path: Path) -> None:
    other = path.with_name("q")
    async with Server(other, {}):
        with pytest.raises(errors.Refused, match="404 page not found"):
            await asyncio.to_thread(next, call.events(other, since=0, group=None, follow=True))


def test_a_daemon_that_has_gone_is_unreachable(path: Path) -> None:
    gone = path.with_name("q")
    with pytest.raises(errors.Unreachable, match="no daemon answers"):
        next(call.events(gone, since=0, group=None, follow=True))


def test_a_daemon_that_goes_is_said(path: Path) -> None:
    other = path.with_name("q")
    beginning = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\ndata: {"
    with (
        misbehaving(other, answers(beginning, after=b"\r\n\r\n")),
        pytest.raises(errors.Unreachable, match="lost the connection to the daemon"),
    ):
        next(call.events(other, since=0, group=None, follow=True))
