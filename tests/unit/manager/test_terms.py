"""How a term begins and ends: by which declaration, and by which observation of the leadership."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infrakit.gate.census import Census, History
from infrakit.manager.declaration import changes, record
from infrakit.manager.declaration.record import DeclarationRecord, without_group
from infrakit.manager.lead import census
from infrakit.manager.lead.ledger import NAME
from infrakit.spi import codec
from infrakit.spi.leadership import Observation
from infrakit.spi.manager import Halt
from infrakit.spi.values import GroupID
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time

WEB = GroupID("web")
HALT = Halt(group=None, who="bob", when="2026-11-29T12:00:00Z", why="moving the rack")


@in_virtual_time
async def test_no_epoch_is_acquired_without_a_readable_declaration() -> None:
    store = MemoryStore()
    await store.replace(name=record.NAME, body=b"damaged", expected=0)
    async with Stage(store=store) as stage:
        await asyncio.sleep(60)
        assert not stage.replica.active.is_set()
        assert (await store.read(name=NAME)).revision == 0


class Overtakes(MemoryStore):
    """Another replica commits `other` before the first write of the ledger arrives. Watches report nothing."""

    other = b""

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if name == NAME and self.other:
            other, self.other = self.other, b""
            await super().replace(name=record.NAME, body=other, expected=await self.newest(name=record.NAME))
        return await super().replace(name=name, body=body, expected=expected)

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        await asyncio.get_running_loop().create_future()
        yield await self.newest(name=name)


@in_virtual_time
async def test_a_term_begins_with_what_was_committed_before_its_epoch() -> None:
    store = Overtakes()
    store.other = record.encode(changes.halt(None, HALT)(DeclarationRecord()))
    async with Stage(store=store) as stage:
        await stage.replica.active.wait()
        assert stage.replica.declaration.record.halt == HALT


@in_virtual_time
async def test_a_group_that_is_not_declared_any_more_makes_no_call_until_its_controller_has_stopped() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        term = stage.replica.term
        assert term is not None
        term.bind(without_group(stage.replica.declaration.record, WEB))
        stage.kill("web", "1")
        await asyncio.sleep(60)
        assert stage.simulator.calls["provision"] == 2
        assert "the group is no longer declared" in " ".join(b.reason for b in stage.controller("web").plan.blocked)


@in_virtual_time
async def test_the_census_of_a_group_that_was_freed_is_empty() -> None:
    """Others may change its instances then, so it is no evidence if the group is declared again."""
    store = MemoryStore()
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        await asyncio.sleep(120)
        stored = codec.decode((await store.read(name=census.name(WEB))).body, Census)
        assert len(stored.members) == 2
        await stage.operator.free(group=WEB, who="ann", why="a test")
        stored = codec.decode((await store.read(name=census.name(WEB))).body, Census)
        assert (stored.members, stored.history) == ((), History())


@in_virtual_time
async def test_what_a_controller_has_requested_is_not_done_after_the_epoch_was_lost() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        assert stage.replica.term is not None
        declared, version = stage.controller("web").want.group.hash, stage.replica.declaration.version
        stage.replica.term.ledger.resign("another replica holds epoch 2")
        await stage.replica.stop_rollout(WEB, hash=declared, rollback=False, why="it fails")
        await asyncio.sleep(1.0)
        assert stage.replica.declaration.version == version


class Scripted:
    """A leadership source that yields what a test puts into it, and can transfer the leadership."""

    def __init__(self) -> None:
        self.observations: asyncio.Queue[Observation] = asyncio.Queue()

    async def observe(self) -> AsyncIterator[Observation]:
        while True:
            yield await self.observations.get()

    async def resign(self) -> None:
        await asyncio.sleep(1.0)


@pytest.mark.parametrize("is_newer", [False, True])
@in_virtual_time
async def test_only_an_observation_from_after_a_resignation_makes_a_replica_lead_again(*, is_newer: bool) -> None:
    source, now = Scripted(), asyncio.get_running_loop().time

    def leads() -> Observation:
        return Observation(leader=True, begun_at=now(), valid_s=1e6)

    async with Stage(leadership=source) as stage:
        source.observations.put_nowait(leads())
        await stage.replica.active.wait()
        before = leads()
        await stage.replica.resign("ann", "a test")
        await asyncio.sleep(1.0)
        source.observations.put_nowait(leads() if is_newer else before)
        await asyncio.sleep(30)
        assert stage.replica.active.is_set() == is_newer
