"""Calls between simulated processes: delayed, lost, late, and never undone by who waits for them."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import pytest

from infrakit.simulation.bridge import LATE_S, TRAVEL_S, Line, remote
from infrakit.simulation.loops import SteppedLoop, Timeline
from infrakit.spi import errors


@runtime_checkable
class Adds(Protocol):
    async def add(self, *, number: int) -> int: ...


@runtime_checkable
class Multiplies(Protocol):
    async def multiply(self, *, number: int) -> int: ...


class Server:
    """Adds up, slowly, in the world's loop."""

    def __init__(self) -> None:
        self.total = 0
        self.takes_s = 0.0

    async def add(self, *, number: int) -> int:
        await asyncio.sleep(self.takes_s)
        if number < 0:
            raise errors.Refused("only what is positive")
        self.total += number
        return self.total

    async def count(self) -> AsyncIterator[int]:
        for number in range(1000):
            yield number
            await asyncio.sleep(1.0)


class Lines:
    """A client's process, and its line to a server."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.loop: SteppedLoop = self.timeline.loop(rate=1.01, offset_s=7.0)
        self.line = Line(self.timeline, self.loop, self.timeline.world, random.Random(1))
        self.server = Server()
        self.client = remote(self.server, self.line)

    def ask(self, number: int, deadline_s: float = 1000.0) -> asyncio.Task[int]:
        async def ask() -> int:
            async with asyncio.timeout(deadline_s):
                return await self.client.add(number=number)

        return self.loop.create_task(ask())

    def until(self, true_s: float) -> None:
        self.timeline.world.call_at(true_s, lambda: None)
        self.timeline.run(lambda: self.timeline.now >= true_s)


def test_a_call_travels_there_and_its_answer_back() -> None:
    lines = Lines()
    task = lines.ask(3)
    lines.timeline.run(task.done)
    assert task.result() == 3
    assert 0.0 < lines.timeline.now < 3 * TRAVEL_S


def test_errors_travel_too() -> None:
    lines = Lines()
    task = lines.ask(-1)
    lines.timeline.run(task.done)
    assert isinstance(task.exception(), errors.Refused)


def test_it_satisfies_the_protocols_that_the_target_does_and_no_others() -> None:
    client: object = Lines().client
    assert isinstance(client, Adds)
    assert not isinstance(client, Multiplies)


def test_who_gives_up_undoes_nothing() -> None:
    lines = Lines()
    lines.server.takes_s = 10.0
    task = lines.ask(3, deadline_s=1.0)
    lines.timeline.run(task.done)
    assert isinstance(task.exception(), TimeoutError)
    assert lines.server.total == 0
    lines.until(11.0)
    assert lines.server.total == 3


def test_the_call_of_a_killed_process_is_carried_out_all_the_same() -> None:
    lines = Lines()
    lines.server.takes_s = 10.0
    task = lines.ask(3)
    lines.timeline.world.call_at(1.0, lines.loop.kill)
    lines.until(20.0)
    assert lines.server.total == 3
    assert not task.done()
    lines.timeline.close()


def test_a_line_that_refuses_does_so_at_once_and_breaks_what_is_under_way() -> None:
    lines = Lines()
    lines.server.takes_s = 5.0
    under_way = lines.ask(3)
    lines.timeline.world.call_at(1.0, lambda: lines.line.cut(refusing=True))
    lines.until(2.0)
    refused = lines.ask(4)
    lines.timeline.run(refused.done)
    assert isinstance(refused.exception(), errors.Unreachable)
    assert lines.timeline.now == 2.0
    lines.timeline.run(under_way.done)
    assert isinstance(under_way.exception(), errors.OutcomeUnknown)
    assert lines.server.total == 3


def sent_into_a_cut(cut_s: float) -> tuple[Lines, int]:
    """Twenty calls into a line that swallows, mended after a while; how many were answered."""
    lines = Lines()
    lines.line.cut(refusing=False)
    tasks = [lines.ask(1) for _ in range(20)]
    lines.timeline.world.call_at(cut_s, lines.line.mend)
    lines.until(cut_s / 2)
    assert lines.server.total == 0
    lines.until(cut_s + 1.0)
    answered = sum(task.done() for task in tasks)
    lines.timeline.close()
    return lines, answered


def test_some_of_what_a_line_has_swallowed_arrives_late() -> None:
    lines, answered = sent_into_a_cut(LATE_S / 2)
    assert 0 < answered < 20
    assert answered == lines.server.total == lines.line.late


def test_nothing_arrives_later_than_is_promised() -> None:
    assert sent_into_a_cut(LATE_S * 1.1)[1] == 0


def test_a_slow_line_takes_its_time_for_each_way() -> None:
    lines = Lines()
    lines.line.slow_s = 10.0
    task = lines.ask(1)
    lines.timeline.run(task.done)
    assert 1.0 < lines.timeline.now < 21.0


@pytest.mark.parametrize("refusing", [True, False])
def test_a_stream_breaks_with_its_line(refusing: bool) -> None:
    lines = Lines()
    seen: list[int] = []

    async def follow() -> None:
        async for number in lines.client.count():
            seen.append(number)  # noqa: PERF401 - it never ends

    task = lines.loop.create_task(follow())
    lines.timeline.world.call_at(3.5, lambda: lines.line.cut(refusing=refusing))
    lines.timeline.world.call_at(10.0, lines.line.mend)
    lines.timeline.run(task.done)
    assert isinstance(task.exception(), errors.Unreachable)
    assert seen == [0, 1, 2, 3]
    assert lines.timeline.now == (3.5 if refusing else 10.0)
    lines.timeline.close()


def test_nobody_answers_for_a_killed_process() -> None:
    timeline = Timeline()
    replica = timeline.loop()
    line, server = Line(timeline, timeline.world, replica, random.Random(1)), Server()
    replica.kill()
    task = timeline.world.create_task(remote(server, line).add(number=1))
    timeline.run(task.done)
    assert isinstance(task.exception(), errors.Unreachable)
