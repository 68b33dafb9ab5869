"""The journal: numbered without gaps, bounded, persistent across crashes, and followed live."""

import asyncio
import multiprocessing
import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.events import journal as journals
from infrakit.events.follow import WAITING_MAX
from infrakit.events.journal import Journal
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from infrakit.spi.event import Event, Kind
from infrakit.spi.values import GroupID, InstanceID, Slot


def event(message: str = "m", **more: object) -> Event:
    return Event(type=Kind.HEALTHY, message=message, **more)  # type: ignore[arg-type]


def opened(path: Path | None, **more: int) -> Journal:
    return Journal(path, clock=SystemClock(), **more)


def segments(path: Path) -> list[Path]:
    return list(path.glob("*.jsonl"))


def messages(events: list[Event]) -> list[str]:
    return [e.message for e in events]


async def written(path: Path, count: int, *, start: int = 0) -> None:
    async with opened(path) as journal:
        for number in range(start, start + count):
            journal.emit(event(f"m{number}"))


async def stored(path: Path) -> list[str]:
    """The messages that a journal reads after a restart."""
    async with opened(path) as journal:
        return messages(await journal.since(0))


async def test_events_are_numbered_and_dated(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        first, second = journal.emit(event()), journal.emit(event())
        assert (first.seq, second.seq, journal.newest) == (1, 2, 2)
        assert first.timestamp.endswith("Z")
        assert await journal.since(0) == [first, second]
        assert await journal.since(1) == [second]
        assert await journal.since(2) == []


async def test_events_that_never_pause_are_written_once_an_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "FLUSH_INTERVAL_S", 3600.0)
    batches: list[int] = []
    async with opened(tmp_path) as journal:
        append, loop = journal._append, asyncio.get_running_loop()

        def append_during_which_more_happens(text: bytes, first: int) -> None:
            batches.append(first)
            append(text, first)
            if len(batches) < 100:
                loop.call_soon_threadsafe(journal.emit, event())

        monkeypatch.setattr(journal, "_append", append_during_which_more_happens)
        journal.emit(event())
        await journal._write()
        assert batches == [1]
    assert batches[-1] == journal.newest == 100  # on exit, everything is written


async def test_numbers_continue_after_a_restart_and_no_event_is_lost(tmp_path: Path) -> None:
    await written(tmp_path, 3)
    async with opened(tmp_path) as journal:
        assert messages(await journal.since(0)) == ["m0", "m1", "m2"]
        assert journal.emit(event("next")).seq == 4
    lines = segments(tmp_path)[0].read_text().splitlines()
    assert len(lines) == 4


@pytest.mark.parametrize("torn", ['{"seq":4,"type":"heal', "x", '{"seq":4,"type":"healthy","message":"no end"}'])
async def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: str) -> None:
    await written(tmp_path, 3)
    segment = segments(tmp_path)[0]
    with segment.open("a") as file:
        file.write(torn)
    async with opened(tmp_path) as journal:
        assert messages(await journal.since(0)) == ["m0", "m1", "m2"]
        journal.emit(event("after"))
    assert await stored(tmp_path) == ["m0", "m1", "m2", "after"]
    assert torn.encode() not in segment.read_bytes()


async def test_a_damaged_line_is_skipped(tmp_path: Path) -> None:
    await written(tmp_path, 3)
    segment = segments(tmp_path)[0]
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[1] = b"\xff\x00 damage\n"
    segment.write_bytes(b"".join(lines))
    assert await stored(tmp_path) == ["m0", "m2"]
    async with opened(tmp_path) as journal:
        assert journal.newest == 3


async def test_opening_a_second_journal_truncates_nothing_of_the_first(tmp_path: Path) -> None:
    await written(tmp_path, 1)
    segment = segments(tmp_path)[0]
    with segment.open("a") as file:
        file.write("half a line, as it is seen while the other writes")
    before = segment.read_bytes()
    opened(tmp_path)  # by a daemon that is then refused
    assert segment.read_bytes() == before


async def test_an_unreadable_segment_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "000000000001.jsonl").mkdir()
    with pytest.raises(errors.Refused, match="the journal cannot be read") as refused:
        await stored(tmp_path)
    assert refused.value.where == str(tmp_path / "000000000001.jsonl")


async def test_the_journal_is_bounded_on_disk_and_old_events_are_read_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES_MAX", 2000)
    monkeypatch.setattr(journals, "SEGMENTS_MAX", 4)
    async with opened(tmp_path, ring_events=10) as journal:
        for number in range(300):
            journal.emit(event(f"m{number}", group=GroupID("even" if number % 2 == 0 else "odd")))
            await journal.flush()
        assert len(segments(tmp_path)) == 4
        everything = await journal.since(0)
        assert len(everything) > 20  # more than memory holds
        assert [e.seq for e in everything] == list(range(everything[0].seq, 301))
        some = await journal.since(everything[5].seq)
        assert [e.seq for e in some] == list(range(everything[6].seq, 301))
        odd = await journal.since(0, group="odd")
        assert {e.group for e in odd} == {"odd"}
        assert len(odd) == len([e for e in everything if e.group == "odd"])
        assert [e.seq for e in await journal.since(0, limit=3)] == [298, 299, 300]
        assert [e.seq for e in await journal.since(0, limit=15)] == list(range(286, 301))
        assert [e.seq for e in await journal.since(0, group="odd", limit=8)] == list(range(286, 301, 2))
        assert await journal.since(0, limit=0) == []
        first = everything[0].seq
        for start in range(first - 2, 301):  # at every edge of a segment, and of memory
            assert [e.seq for e in await journal.since(start)] == list(range(max(first, start + 1), 301))
    # A closed journal returns the same.
    assert list(journals.read_events(tmp_path)) == everything
    assert list(journals.read_events(tmp_path, everything[5].seq)) == some
    assert list(journals.read_events(tmp_path, group="odd")) == odd
    assert list(journals.read_events(tmp_path / "nothing")) == []


async def test_the_history_of_an_instance_a_slot_or_a_group() -> None:
    journal, g = opened(None), GroupID("g")
    journal.emit(event("of the group", group=g))
    journal.emit(event("of the slot", group=g, slot=Slot("1")))
    journal.emit(event("of the instance", group=g, slot=Slot("1"), instance=InstanceID("i")))
    journal.emit(event("of another", group=GroupID("h"), instance=InstanceID("i")))
    story = journal.story
    assert [e.message for e in story(group=g, subject="i", limit=9)] == ["of the instance"]
    assert [e.message for e in story(group=g, subject="1", limit=9)] == ["of the slot", "of the instance"]
    assert len(story(group=g, subject="", limit=9)) == 3
    assert [e.message for e in story(group=g, subject="", limit=1)] == ["of the instance"]


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    return [await anext(events) for _ in range(count)]


async def test_followers_get_past_events_and_then_new_ones() -> None:
    journal = opened(None)
    journal.emit(event("one"))
    journal.emit(event("two", group=GroupID("g")))
    async with asyncio.timeout(20):
        every, mine = journal.follow(0), journal.follow(0, "g")
        assert messages(await take(every, 2)) == ["one", "two"]
        assert messages(await take(mine, 1)) == ["two"]
        later = asyncio.gather(take(every, 2), take(mine, 1))
        await asyncio.sleep(0)
        journal.emit(event("three"))
        journal.emit(event("four", group=GroupID("g")))
        assert [messages(found) for found in await later] == [["three", "four"], ["four"]]
        await every.aclose()  # type: ignore[attr-defined]
        await mine.aclose()  # type: ignore[attr-defined]
    assert not journal._followers


async def test_a_slow_follower_receives_the_number_of_dropped_events() -> None:
    journal = opened(None)
    async with asyncio.timeout(20):
        events = journal.follow(0)
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        for number in range(WAITING_MAX + 7):
            journal.emit(event(f"m{number}"))
        assert (await first).message == "m0"
        rest = await take(events, WAITING_MAX)
        assert rest[-2].message == f"m{WAITING_MAX - 1}"
        assert rest[-1].message == "7 events were dropped: this reader is too slow"
        assert rest[-1].type is Kind.ERROR


async def test_a_failing_disk_is_reported_once_and_the_journal_continues(tmp_path: Path) -> None:
    journal = opened(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("a file is in the way")
    for number in range(3):
        journal.emit(event(f"m{number}"))
        await journal.flush()
    reported = messages(await journal.since(0))
    assert reported[0] == "m0"
    assert "the journal cannot be written" in reported[1]
    assert reported[2:] == ["m1", "m2"]
    (tmp_path / "elsewhere").unlink()
    journal.emit(event("mended"))
    await journal.flush()
    assert (await stored(tmp_path / "elsewhere"))[-1] == "mended"


def test_a_line_torn_by_a_full_disk_loses_no_later_event(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(fill_the_disk(tmp_path)))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert asyncio.run(stored(tmp_path)) == ["before", "after"]


async def fill_the_disk(path: Path) -> None:
    """In a process with a file size limit: equivalent to a full disk."""
    async with opened(path) as journal:
        journal.emit(event("before"))
        await journal.flush()
        (segment,) = segments(path)
        room = segment.stat().st_size + 20
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        journal.emit(event("lost"))
        await journal.flush()
        torn = segment.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert torn == room, "no line was torn: the test proves nothing"
        journal.emit(event("after"))


async def test_a_cancelled_flush_loses_nothing_and_writes_nothing_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for number in range(50):
            journal.emit(event(f"m{number}"))
            flush = asyncio.create_task(journal.flush())
            await asyncio.sleep(0)
            flush.cancel()
            await asyncio.wait({flush})
    assert await stored(tmp_path) == [f"m{number}" for number in range(50)]


async def test_events_during_a_flush_are_written_by_the_same_flush(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.emit(event("m0"))
    first = asyncio.create_task(journal.flush())
    await asyncio.sleep(0)
    journal.emit(event("m1"))
    await asyncio.gather(first, journal.flush(), journal.flush())
    assert await stored(tmp_path) == ["m0", "m1"]


def test_flushed_events_survive_a_kill(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:

        async def work() -> None:
            async with opened(tmp_path) as journal:
                for number in range(100):
                    journal.emit(event(f"m{number}"))
                await journal.flush()
                os.write(writing, b"flushed")
                await asyncio.sleep(1000)

        asyncio.run(work())
    assert os.read(reading, 7) == b"flushed"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    os.close(writing)
    assert asyncio.run(stored(tmp_path)) == [f"m{number}" for number in range(100)]


async def test_the_event_types_of_older_journals_are_read(tmp_path: Path) -> None:
    await written(tmp_path, 2)
    segment = segments(tmp_path)[0]
    before = segment.read_bytes().splitlines(keepends=True)
    old = [line.replace(b'"healthy"', name) for line, name in zip(before, (b'"gone"', b'"roll"'), strict=True)]
    segment.write_bytes(b"".join(old))
    async with opened(tmp_path) as journal:
        assert [each.type for each in await journal.since(0)] == [Kind.TERMINATED, Kind.ROLLOUT]
