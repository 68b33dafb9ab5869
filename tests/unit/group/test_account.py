"""The account of a provider: throttling delays every call of all groups, and a success permits one more at a time."""

import asyncio
import random

from infrakit.group.account import Account
from infrakit.instances.simulator import Faults, Simulator
from infrakit.spi.values import GroupID
from tests.stage import in_virtual_time


class Queue:
    """A group with queued calls, which never return."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.started_at: list[float] = []

    def urgency(self) -> int | None:
        return 1 if self.left else None

    def start_next(self) -> None:
        self.left -= 1
        self.started_at.append(asyncio.get_running_loop().time())


def account(*queues: Queue, at_once: int) -> Account:
    found = Account("simulator", Simulator(Faults()), random=random.Random(1))
    for number, queue in enumerate(queues):
        found.join(GroupID(f"g-{number}"), queue, lambda _why: None)
        found.limits[GroupID(f"g-{number}")] = at_once
    return found


@in_virtual_time
async def test_no_call_of_any_group_starts_before_the_delay_that_the_provider_requested() -> None:
    first, second = Queue(3), Queue(3)
    shared = account(first, second, at_once=32)
    assert shared.throttle(10.0), "the first of the calls in flight"
    assert not shared.throttle(10.0)
    began = asyncio.get_running_loop().time()
    shared.dispatch()
    assert first.started_at == second.started_at == []
    await asyncio.sleep(60.0)
    assert shared.in_flight == 1, "concurrency is halved from the calls in flight, and at least 1"
    assert min(first.started_at) >= began + 10.0


@in_virtual_time
async def test_each_success_after_throttling_permits_one_more_call() -> None:
    queue = Queue(100)
    shared = account(queue, at_once=8)
    shared.dispatch()
    assert shared.in_flight == 8
    shared.throttle(1.0)
    assert shared.limit == 4
    await asyncio.sleep(10.0)
    shared.finished(ok=False)
    assert shared.limit == 4
    shared.finished(ok=True)
    assert shared.limit == 5


@in_virtual_time
async def test_delays_grow_while_the_provider_throttles_again_and_again() -> None:
    shared, delays_s = account(Queue(1), at_once=1), list[float]()
    for _ in range(6):
        began = asyncio.get_running_loop().time()
        shared.throttle(1.0)
        delays_s.append(shared.throttled_until - began)
        await asyncio.sleep(delays_s[-1])
    assert all(2 ** (n - 1) <= delay_s <= 1.5 * 2**n for n, delay_s in enumerate(delays_s)), delays_s
