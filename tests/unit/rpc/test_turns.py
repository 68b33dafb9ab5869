"""Short calls share a few connections, and no call waits for the end of a slow one."""

import asyncio
import inspect

import pytest

from infrakit.gate.gate import Gate
from infrakit.rpc import interfaces, wire
from infrakit.rpc.transport import Transport
from infrakit.rpc.turns import CHECK_S, SHARED, Turns
from infrakit.spi import errors
from infrakit.spi.flavor import Flavor
from infrakit.spi.instance import Instance
from tests.stage import in_virtual_time

MANY = 1000


class Calls:
    """Calls that take turns, and the loop time at which each has begun."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.began: list[float] = []
        self.in_progress = 0
        self.in_progress_most = 0

    async def call(self, takes_s: float) -> None:
        async with self.turns:
            self.began.append(asyncio.get_running_loop().time())
            self.in_progress += 1
            self.in_progress_most = max(self.in_progress_most, self.in_progress)
            await asyncio.sleep(takes_s)
            self.in_progress -= 1

    async def all(self, *takes_s: float) -> float:
        """Make calls that begin at once, and return how long they took in seconds."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*map(self.call, takes_s))
        return loop.time() - began


@in_virtual_time
async def test_short_calls_share_a_few_connections() -> None:
    calls = Calls()
    assert await calls.all(*[0.005] * MANY) == pytest.approx(0.005 * MANY / SHARED, rel=0.1)
    assert calls.in_progress_most == SHARED


@in_virtual_time
async def test_slow_calls_begin_nearly_at_once() -> None:
    calls = Calls()
    took_s = await calls.all(*[30.0] * MANY)
    assert calls.began[SHARED] <= CHECK_S + 0.001
    assert took_s <= 30.0 + 6 * CHECK_S + 0.001


@in_virtual_time
async def test_short_calls_do_not_wait_for_slow_ones() -> None:
    calls = Calls()
    hanging = asyncio.ensure_future(calls.all(*[600.0] * (SHARED - 1)))
    await asyncio.sleep(0.001)
    assert await calls.all(*[0.015] * MANY) < 2.0
    assert not hanging.done()
    hanging.cancel()


@in_virtual_time
async def test_calls_as_fast_as_many_providers_take_turns_quickly() -> None:
    assert await Calls().all(*[0.09] * MANY) < 1.0


@in_virtual_time
async def test_after_slow_calls_the_limit_applies_again() -> None:
    calls = Calls()
    await calls.all(*[30.0] * MANY)
    calls.in_progress_most = 0
    await calls.all(*[0.005] * MANY)
    assert calls.in_progress_most == SHARED


@in_virtual_time
async def test_a_call_that_is_cancelled_at_its_turn_passes_it_on() -> None:
    turns = Turns()
    for _ in range(SHARED):
        await turns.begin()
    cancelled, last = (asyncio.ensure_future(turns.begin()) for _ in range(2))
    await asyncio.sleep(0)
    turns.end()
    cancelled.cancel()
    await asyncio.wait({last}, timeout=CHECK_S / 2)
    assert last.done()
    assert cancelled.cancelled()


async def test_a_failed_request_ends_its_turn() -> None:
    transport = Transport("/nonexistent/plugin")
    with pytest.raises(errors.Unreachable):
        await transport.post(b"{}", deadline_s=5.0, may_wait=True)
    assert not transport._turns._in_progress
    await transport.close()


def test_what_the_gate_admits_does_not_wait_for_a_turn() -> None:
    """It would begin later than its right to begin was proven (law 1)."""
    gated = {
        name for name, each in vars(Gate).items() if inspect.iscoroutinefunction(each) and not name.startswith("_")
    }
    described = [method for each in interfaces.INTERFACES for method in wire.methods(each)]
    assert gated - {"permit"} <= {method.name for method in described}
    assert not [method.wire for method in described if method.name in gated and method.may_wait]
    assert wire.method(Flavor.prepare).may_wait
    assert wire.method(Instance.describe_instances).may_wait
