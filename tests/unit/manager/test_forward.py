"""Every command is one change of the record: a follower executes and answers it exactly as the leader does."""

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
COMMANDS: dict[str, Callable[[Manager], Awaitable[Committed]]] = {
    "scale": lambda m: m.scale(group=WEB, size=3, **WHO),
    "halt": lambda m: m.halt(group=WEB, **WHO),
    "unhalt": lambda m: m.unhalt(**WHO),
    "pause": lambda m: m.pause(group=WEB, **WHO),
    "resume": lambda m: m.resume(group=WEB, **WHO),
    "abort": lambda m: m.abort(group=WEB, **WHO),
    "rollback": lambda m: m.rollback(group=WEB, **WHO),
    "adopt": lambda m: m.adopt(cluster="c1", **WHO),
    "free": lambda m: m.free(group=WEB, **WHO),
    "destroy": lambda m: m.destroy(group=WEB, **WHO),
    "restore": lambda m: m.restore(version=1, **WHO),
    "commit": lambda m: m.commit(text="[]", source="x", **WHO),
}
ONLY_THE_LEADER = {"adopt_account", "plan", "why", "members", "destroy_instance", "logs", "tail", "resign"}
ANSWERED_LOCALLY = {"status", "leader", "history", "show", "forget", "shutdown"}


class NeverLeads:
    """Reports that another node leads."""

    async def observe(self) -> AsyncIterator[Observation]:
        while True:
            yield Observation(leader=False, begun_at=asyncio.get_running_loop().time(), valid_s=60.0)
            await asyncio.sleep(30.0)


def test_every_method_is_tested_or_known_to_be_no_forwarded_command() -> None:
    methods = {name for name, _ in inspect.getmembers(Manager, inspect.isfunction) if not name.startswith("_")}
    assert methods == COMMANDS.keys() | ONLY_THE_LEADER | ANSWERED_LOCALLY


async def outcome(command: str, *, at_a_follower: bool) -> tuple[Any, str]:
    """The response, or the error as text, and the record afterwards."""
    store, simulator = MemoryStore(), Simulator(Faults())
    async with Stage(store=store, simulator=simulator) as leader:
        await leader.commit(cattle("web", 2), pets("db", "a"))
        await leader.converged()
        async with Stage(store=store, simulator=simulator, leadership=NeverLeads()) as follower:
            await follower.until(lambda: follower.replica.declaration.version == leader.replica.declaration.version)
            target = follower if at_a_follower else leader
            try:
                answer: Any = await COMMANDS[command](target.operator)
            except errors.InfraKitError as error:
                answer = f"{type(error).__name__}: {error}"
            if command == "adopt":  # only the leader lists instances, so only its note is certain
                answer = msgspec.structs.replace(answer, notes=())
            body = (await store.read(name=record.NAME)).body
            stored = TIME.sub("TIME", msgspec.json.encode(record.decode(body)).decode())
            await leader.until(lambda: leader.replica.declaration.version == follower.replica.declaration.version)
            return answer, stored


@pytest.mark.parametrize("command", COMMANDS)
@in_virtual_time
async def test_a_follower_executes_and_answers_a_command_as_the_leader_does(command: str) -> None:
    assert await outcome(command, at_a_follower=True) == await outcome(command, at_a_follower=False)


@in_virtual_time
async def test_the_leader_drops_a_group_that_a_follower_frees() -> None:
    """Also its intents, which only the leader has; the group may be declared again."""
    store, simulator = MemoryStore(), Simulator(Faults(capacity=1))
    async with Stage(store=store, simulator=simulator) as leader:
        await leader.commit(cattle("web", 2))
        await leader.until(lambda: leader.replica.term is not None and leader.replica.term.ledger.intents(WEB))
        async with Stage(store=store, simulator=simulator, leadership=NeverLeads()) as follower:
            await follower.until(lambda: follower.replica.declaration.version == leader.replica.declaration.version)
            await follower.operator.free(group=WEB, **WHO)
            ledger = leader.replica.term.ledger if leader.replica.term is not None else None
            assert ledger is not None
            await leader.until(lambda: WEB not in leader.controllers() and not ledger.groups)


@in_virtual_time
async def test_a_resume_at_a_follower_makes_the_leader_retry_at_once() -> None:
    store, simulator = MemoryStore(), Simulator(Faults(refuse_rate=1.0))
    async with Stage(store=store, simulator=simulator) as leader:
        await leader.commit(cattle("web", 1))
        await leader.until(lambda: any(t.count > 4 for t in leader.controller("web").view.backoffs.values()))
        leader.fault(refuse_rate=0.0)
        async with Stage(store=store, simulator=simulator, leadership=NeverLeads()) as follower:
            await follower.until(lambda: follower.replica.declaration.version == leader.replica.declaration.version)
            await follower.operator.resume(group=WEB, **WHO)
            await leader.converged(within_s=20.0)
