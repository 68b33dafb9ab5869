"""The event journal over the socket: stored events, new events, and readers that disconnect."""

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
    """The messages of the stored events, as the client reads them."""
    named = GroupID(group) if group else None
    return await asyncio.to_thread(
        lambda: [e.message for e in call.events(path, since=since, group=named, follow=False)]
    )


async def next_message(events: Iterator[Event]) -> str:
    async with asyncio.timeout(DEADLINE_S):
        return (await asyncio.to_thread(next, events)).message


async def until(client: Connection, words: bytes) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        return await client.reader.readuntil(words)


async def test_stored_events_are_read_to_the_end(path: Path, journal: WatchedJournal) -> None:
    assert await read(path, since=0) == []
    recorded = [journal.record(f"{n}", group="web" if n % 2 else "store") for n in range(1, 6)]
    assert await asyncio.to_thread(lambda: list(call.events(path, since=0, group=None, follow=False))) == recorded
    assert await read(path, since=3) == ["4", "5"]
    assert await read(path, since=5) == []
    assert await read(path, since=99) == []
    assert await read(path, since=None) == []
    assert await read(path, since=0, group="web") == ["1", "3", "5"]
    assert await read(path, since=0, group="nobody's & nothing") == []


async def test_followers_receive_stored_and_new_events(path: Path, journal: WatchedJournal) -> None:
    journal.record("before")
    with contextlib.closing(call.events(path, since=0, group=None, follow=True)) as events:
        assert await next_message(events) == "before"
        for words in ("fresh", "ä\n<&>", "last"):
            journal.record(words)
            assert await next_message(events) == words


async def test_without_a_sequence_number_only_new_events_are_received(path: Path, journal: WatchedJournal) -> None:
    journal.record("before")
    with contextlib.closing(call.events(path, since=None, group=None, follow=True)) as events:
        first = asyncio.ensure_future(next_message(events))
        await journal.until_listeners(1)
        journal.record("fresh")
        assert await first == "fresh"


async def test_followers_of_a_group_receive_only_its_events(path: Path, journal: WatchedJournal) -> None:
    with contextlib.closing(call.events(path, since=0, group=GroupID("web"), follow=True)) as events:
        for n in range(5):
            journal.record(f"store {n}", group="store")
        journal.record("mine")
        assert await next_message(events) == "mine"


async def test_the_stream_is_server_sent_events(path: Path, journal: WatchedJournal) -> None:
    journal.record("one")
    async with connect(path) as client:
        await client.send(get("?since=0"))
        head = (await until(client, b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200")
        for header in (b"content-type: text/event-stream", b"cache-control: no-cache", b"transfer-encoding: chunked"):
            assert header in head
        assert b'data: {"Seq":1,' in await until(client, b'"Message":"one"}\n\n')
        assert b"\n:\n\n" in await until(client, b":\n\n")  # no events: a keep-alive


async def test_a_disconnected_reader_is_removed(path: Path, journal: WatchedJournal) -> None:
    """Also if no event is written to it."""
    async with connect(path) as client:
        await client.send(get())
        await journal.until_listeners(1)
    await journal.until_listeners(0)


async def test_the_number_of_event_streams_is_limited(path: Path, journal: WatchedJournal) -> None:
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
async def test_an_invalid_sequence_number_is_refused(path: Path, since: str) -> None:
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


def test_events_of_a_stopped_daemon_are_unreachable(path: Path) -> None:
    stopped = path.with_name("q")
    with pytest.raises(errors.Unreachable, match="no daemon answers"):
        next(call.events(stopped, since=0, group=None, follow=True))


def test_a_lost_connection_to_the_daemon_is_reported(path: Path) -> None:
    other = path.with_name("q")
    beginning = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\ndata: {"
    with (
        misbehaving(other, answers(beginning, after=b"\r\n\r\n")),
        pytest.raises(errors.Unreachable, match="lost the connection to the daemon"),
    ):
        next(call.events(other, since=0, group=None, follow=True))
