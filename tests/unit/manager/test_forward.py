"""Every order is one change of the record: a follower does what the leader does, and answers as it does."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Simulator
from infrakit.manager.declaration import record
from infrakit.spi import errors
from infrakit.spi.leadership import Observation
from infrakit.spi.manager import Committed, Manager
from infrakit.spi.values import GroupID
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets

WEB, DB = GroupID("web"), GroupID("db")
WHO: Any = {"who": "ann", "why": "a test"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
ORDERS: dict[str, Callable[[Manager], Awaitable[Committed]]] = {
    "scale": lambda m: m.scale(group=WEB, size=3, **WHO),
    "halt": lambda m: m.halt(group=WEB, **WHO),
    "unhalt": lambda m: m.unhalt(**WHO),
    "pause": lambda m: m.pause(group=WEB, **WHO),
    "resume": lambda m: m.resume(group=WEB, **WHO),
    "abort": lambda m: m.abort(group=WEB, **WHO),
    "rollback": lambda m: m.rollback(group=WEB, **WHO),
    "free": lambda m: m.free(group=WEB, **WHO),
    "destroy": lambda m: m.destroy(group=WEB, **WHO),
    "restore": lambda m: m.restore(version=1, **WHO),
    "commit": lambda m: m.commit(text="[]", source="x", **WHO),
}
ONLY_THE_LEADER = {"plan", "why", "members", "destroy_instance", "logs", "tail", "resign"}
OF_ITSELF = {"status", "leader", "history", "show", "shutdown"}


class Follows:
    """Never leads."""

    async def observe(self) -> AsyncIterator[Observation]:
        while True:
            yield Observation(leader=False, begun_at=asyncio.get_running_loop().time(), valid_s=60.0)
            await asyncio.sleep(30.0)


def test_every_method_is_tried_or_known_to_be_no_order() -> None:
    methods = {name for name, _ in inspect.getmembers(Manager, inspect.isfunction) if not name.startswith("_")}
    assert methods == ORDERS.keys() | ONLY_THE_LEADER | OF_ITSELF


async def outcome(order: str, *, at_a_follower: bool) -> tuple[Any, str]:
    """The answer, or the error in words; and the record afterwards."""
    store, simulator = MemoryStore(), Simulator(Faults())
    async with Stage(store=store, simulator=simulator) as leader:
        await leader.commit(cattle("web", 2), pets("db", "a"))
        await leader.converged()
        async with Stage(store=store, simulator=simulator, leadership=Follows()) as follower:
            await follower.until(lambda: follower.replica.declaration.version == leader.replica.declaration.version)
            asked = follower if at_a_follower else leader
            try:
                answer: Any = await ORDERS[order](asked.operator)
            except errors.InfraKitError as error:
                answer = f"{type(error).__name__}: {error}"
            body = (await store.read(name=record.NAME)).body
            kept = TIME.sub("TIME", msgspec.json.encode(record.decode(body)).decode())
            await leader.until(lambda: leader.replica.declaration.version == follower.replica.declaration.version)
            return answer, kept


@pytest.mark.parametrize("order", ORDERS)
@in_virtual_time
async def test_a_follower_does_and_answers_what_the_leader_does(order: str) -> None:
    assert await outcome(order, at_a_follower=True) == await outcome(order, at_a_follower=False)


@in_virtual_time
async def test_a_group_that_a_follower_frees_is_forgotten_by_the_leader() -> None:
    """Its intents too, which only the leader holds; and it may be declared again."""
    store, simulator = MemoryStore(), Simulator(Faults(capacity=1))
    async with Stage(store=store, simulator=simulator) as leader:
        await leader.commit(cattle("web", 2))
        await leader.until(lambda: leader.replica.term is not None and leader.replica.term.ledger.intents(WEB))
        async with Stage(store=store, simulator=simulator, leadership=Follows()) as follower:
            await follower.until(lambda: follower.replica.declaration.version == leader.replica.declaration.version)
            await follower.operator.free(group=WEB, **WHO)
            ledger = leader.replica.term.ledger if leader.replica.term is not None else None
            assert ledger is not None
            await leader.until(lambda: WEB not in leader.controllers() and not ledger.groups)


@in_virtual_time
async def test_what_a_follower_is_told_to_resume_is_retried_at_once_by_the_leader() -> None:
    store, simulator = MemoryStore(), Simulator(Faults(refuse_rate=1.0))
    async with Stage(store=store, simulator=simulator) as leader:
        await leader.commit(cattle("web", 1))
        await leader.until(lambda: any(t.count > 4 for t in leader.controller("web").view.backoffs.values()))
        leader.fault(refuse_rate=0.0)
        async with Stage(store=store, simulator=simulator, leadership=Follows()) as follower:
            await follower.until(lambda: follower.replica.declaration.version == leader.replica.declaration.version)
            await follower.operator.resume(group=WEB, **WHO)
            await leader.converged(within_s=20.0)
