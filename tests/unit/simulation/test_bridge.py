"""Calls between simulated processes: delayed, lost or late, and never undone when the caller gives up."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import pytest

from infrakit.simulation.bridge import LATE_S, TRAVEL_S, Link, remote
from infrakit.simulation.loops import SteppedLoop, Timeline
from infrakit.spi import errors


@runtime_checkable
class Adds(Protocol):
    async def add(self, *, number: int) -> int: ...


@runtime_checkable
class Multiplies(Protocol):
    async def multiply(self, *, number: int) -> int: ...


class Server:
    """Adds numbers, slowly, in the loop of the world."""

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


class LinkedClient:
    """The process of a client, and its link to a server."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.loop: SteppedLoop = self.timeline.loop(rate=1.01, offset_s=7.0)
        self.link = Link(self.timeline, self.loop, self.timeline.world, random.Random(1))
        self.server = Server()
        self.server_proxy = remote(self.server, self.link)

    def ask(self, number: int, deadline_s: float = 1000.0) -> asyncio.Task[int]:
        async def ask() -> int:
            async with asyncio.timeout(deadline_s):
                return await self.server_proxy.add(number=number)

        return self.loop.create_task(ask())

    def until(self, true_s: float) -> None:
        self.timeline.world.call_at(true_s, lambda: None)
        self.timeline.run(lambda: self.timeline.now >= true_s)


def test_a_call_and_its_response_travel_over_the_link() -> None:
    client = LinkedClient()
    task = client.ask(3)
    client.timeline.run(task.done)
    assert task.result() == 3
    assert 0.0 < client.timeline.now < 3 * TRAVEL_S


def test_errors_travel_over_the_link_too() -> None:
    client = LinkedClient()
    task = client.ask(-1)
    client.timeline.run(task.done)
    assert isinstance(task.exception(), errors.Refused)


def test_a_proxy_satisfies_the_protocols_of_its_target_and_no_others() -> None:
    client: object = LinkedClient().server_proxy
    assert isinstance(client, Adds)
    assert not isinstance(client, Multiplies)


def test_a_caller_that_gives_up_undoes_nothing() -> None:
    client = LinkedClient()
    client.server.takes_s = 10.0
    task = client.ask(3, deadline_s=1.0)
    client.timeline.run(task.done)
    assert isinstance(task.exception(), TimeoutError)
    assert client.server.total == 0
    client.until(11.0)
    assert client.server.total == 3


def test_the_call_of_a_killed_process_is_still_executed() -> None:
    client = LinkedClient()
    client.server.takes_s = 10.0
    task = client.ask(3)
    client.timeline.world.call_at(1.0, client.loop.kill)
    client.until(20.0)
    assert client.server.total == 3
    assert not task.done()
    client.timeline.close()


def test_a_refusing_link_refuses_at_once_and_breaks_calls_in_flight() -> None:
    client = LinkedClient()
    client.server.takes_s = 5.0
    under_way = client.ask(3)
    client.timeline.world.call_at(1.0, lambda: client.link.cut(refusing=True))
    client.until(2.0)
    refused = client.ask(4)
    client.timeline.run(refused.done)
    assert isinstance(refused.exception(), errors.Unreachable)
    assert client.timeline.now == 2.0
    client.timeline.run(under_way.done)
    assert isinstance(under_way.exception(), errors.OutcomeUnknown)
    assert client.server.total == 3


def sent_into_a_cut(cut_s: float) -> tuple[LinkedClient, int]:
    """Send twenty calls into a dropping link that is restored later; return how many got a response."""
    client = LinkedClient()
    client.link.cut(refusing=False)
    tasks = [client.ask(1) for _ in range(20)]
    client.timeline.world.call_at(cut_s, client.link.heal)
    client.until(cut_s / 2)
    assert client.server.total == 0
    client.until(cut_s + 1.0)
    answered = sum(task.done() for task in tasks)
    client.timeline.close()
    return client, answered


def test_some_messages_that_a_link_dropped_arrive_late() -> None:
    client, answered = sent_into_a_cut(LATE_S / 2)
    assert 0 < answered < 20
    assert answered == client.server.total == client.link.late


def test_no_message_arrives_later_than_the_bound() -> None:
    assert sent_into_a_cut(LATE_S * 1.1)[1] == 0


def test_a_slow_link_delays_each_direction() -> None:
    client = LinkedClient()
    client.link.slow_s = 10.0
    task = client.ask(1)
    client.timeline.run(task.done)
    assert 1.0 < client.timeline.now < 21.0


@pytest.mark.parametrize("refusing", [True, False])
def test_a_stream_breaks_with_its_link(refusing: bool) -> None:
    client = LinkedClient()
    seen: list[int] = []

    async def follow() -> None:
        async for number in client.server_proxy.count():
            seen.append(number)  # noqa: PERF401 - the iterator is infinite

    task = client.loop.create_task(follow())
    client.timeline.world.call_at(3.5, lambda: client.link.cut(refusing=refusing))
    client.timeline.world.call_at(10.0, client.link.heal)
    client.timeline.run(task.done)
    assert isinstance(task.exception(), errors.Unreachable)
    assert seen == [0, 1, 2, 3]
    assert client.timeline.now == (3.5 if refusing else 10.0)
    client.timeline.close()


def test_calls_to_a_killed_process_fail() -> None:
    timeline = Timeline()
    replica = timeline.loop()
    link, server = Link(timeline, timeline.world, replica, random.Random(1)), Server()
    replica.kill()
    task = timeline.world.create_task(remote(server, link).add(number=1))
    timeline.run(task.done)
    assert isinstance(task.exception(), errors.Unreachable)
