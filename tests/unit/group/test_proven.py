"""Declared is not proven: rollback and healing return to the last version with which the whole group was healthy."""

import asyncio
from typing import Any

import msgspec
import pytest

from infrakit.instances.simulator import Simulator
from infrakit.manager.declaration import record as records
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.store import Store
from infrakit.spi.values import Allocation, GroupID, Index, InstanceSpec
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets

G = GroupID("g")
BAD = [{"NeverHealthy": True}, {"Refuse": True}]
KINDS = ["cattle", "pets", "quorum"]


def group(kind: str, version: int = 0, ids: str = "a b c", **more: Any) -> dict[str, Any]:
    if kind == "cattle":
        return cattle("g", 3, version=version, **more)
    return pets("g", ids, quorum=kind == "quorum", version=version, **more)


async def recorded(store: Store) -> records.DeclarationRecord:
    return records.decode((await store.read(name=records.NAME)).body)


async def proven(stage: Stage) -> None:
    """Wait until the declared version is recorded as proven."""
    declared = stage.replica.declaration
    await stage.until(lambda: G in declared.record.proven and not stage.controller("g").want.is_unproven, 120)


def is_paused(stage: Stage) -> bool:
    roll = stage.replica.declaration.record.orders_of(G).roll
    return roll is not None and roll.failed


async def two_bad_versions(stage: Stage, kind: str, bad: dict[str, Any]) -> None:
    """Prove version 0; commit a bad version, and another bad one on top of it. Both rolling updates fail."""
    await stage.commit(group(kind))
    await proven(stage)
    await stage.commit(group(kind, 1, **bad))
    await stage.until(lambda: is_paused(stage))
    await stage.commit(group(kind, 2, **bad))
    await stage.until(lambda: is_paused(stage))


@in_virtual_time
async def test_a_version_is_recorded_once_when_every_member_has_been_healthy_for_the_bake_time() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("g", 3, updating={"BakeTime": "40s"}))
        await stage.converged()
        began = asyncio.get_running_loop().time()
        assert not (await recorded(stage.store)).proven
        await proven(stage)
        assert 35 <= asyncio.get_running_loop().time() - began <= 45
        version = stage.replica.declaration.version
        assert [e for e in stage.messages(Kind.COMMITTED) if "proven by infrakit" in e]
        assert stage.is_converged(), "recording it interrupts nothing"
        await asyncio.sleep(600)
        assert stage.replica.declaration.version == version
        await stage.scale("g", 5)
        await stage.converged()
        await asyncio.sleep(120)
        record = await recorded(stage.store)
        assert stage.replica.declaration.version == version + 1, "another size is no other version"
        assert record.proven == record.groups
        assert record.entry.what == "scale"


@in_virtual_time
async def test_a_version_is_not_proven_while_a_member_is_not_healthy_for_long_enough() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("g", 3, updating={"BakeTime": "60s"}))
        await stage.converged()
        for number in range(6):
            await asyncio.sleep(30)
            stage.kill("g", str(number % 3 + 1))
            await stage.converged()
        assert not stage.replica.declaration.record.proven
        await proven(stage)


@in_virtual_time
async def test_an_empty_group_proves_nothing() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("g", 0))
        await stage.converged()
        await asyncio.sleep(120)
        assert not stage.replica.declaration.record.proven


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_after_two_bad_versions_an_automatic_rollback_returns_to_the_proven_one(
    kind: str, bad: dict[str, Any]
) -> None:
    rollback = {"OnFailure": "rollback"}
    async with Stage() as stage:
        await stage.commit(group(kind))
        await proven(stage)
        await stage.commit(group(kind, 1, **bad))
        await stage.until(lambda: is_paused(stage))
        await stage.commit(group(kind, 2, updating=rollback, **bad))
        await stage.until(lambda: any("rollback by infrakit" in m for m in stage.messages(Kind.COMMITTED)))
        await stage.converged()
        assert stage.versions("g") == {0}
        assert len(stage.alive("g")) == 3
        updating = stage.replica.declaration.record.groups[G].properties.updating
        assert updating.on_failure == "rollback", "only Instance and Flavor come from the proven version"


@in_virtual_time
async def test_a_failing_version_that_an_operator_has_restored_is_rolled_back_to_the_proven_one() -> None:
    rollback = {"OnFailure": "rollback"}
    async with Stage() as stage:
        await stage.commit(group("cattle"))
        await proven(stage)
        await stage.commit(group("cattle", 1, NeverHealthy=True))
        await stage.until(lambda: is_paused(stage))
        await stage.commit(group("cattle", 2, NeverHealthy=True, updating=rollback))
        await stage.operator.rollback(group=G, who="ann", why="the one before")
        await stage.until(lambda: any("rollback by infrakit" in m for m in stage.messages(Kind.COMMITTED)))
        await stage.converged()
        assert stage.versions("g") == {0}


@pytest.mark.parametrize("failover", [False, True])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_a_healthy_old_member_that_dies_after_a_failed_update_returns_with_the_proven_version(
    kind: str, bad: dict[str, Any], failover: bool
) -> None:
    store = MemoryStore()
    stage = Stage(store=store)
    async with stage:
        await two_bad_versions(stage, kind, bad)
        await stage.until(lambda: len(stage.alive("g")) == 3)
        if not failover:
            await _dies_and_returns(stage, kind)
    if failover:
        async with Stage(store=store, simulator=stage.simulator) as next_stage:
            await next_stage.replica.active.wait()
            await next_stage.until(lambda: len(next_stage.alive("g")) == 3)
            await _dies_and_returns(next_stage, kind)


async def _dies_and_returns(stage: Stage, kind: str) -> None:
    slot = "3" if kind == "cattle" else "c"
    dead = stage.kill("g", slot)
    await stage.until(lambda: slot in stage.alive("g") and stage.alive("g")[slot].id != dead, 60)
    await asyncio.sleep(120)
    assert stage.versions("g") == {0}
    assert len(stage.alive("g")) == 3


@pytest.mark.parametrize("bad", BAD)
@in_virtual_time
async def test_the_failed_canary_of_a_quorum_returns_to_the_proven_version_by_itself(bad: dict[str, Any]) -> None:
    async with Stage() as stage:
        await two_bad_versions(stage, "quorum", bad)
        await stage.until(lambda: stage.versions("g") == {0} and len(stage.alive("g")) == 3, 120)
        await asyncio.sleep(300)
        assert stage.versions("g") == {0}
        assert (await stage.status("g")).healthy == 3
        assert (await stage.status("g")).phase == "paused"


@in_virtual_time
async def test_while_an_operator_pauses_the_rolling_update_healing_creates_the_proven_version() -> None:
    async with Stage() as stage:
        await stage.commit(group("cattle"))
        await proven(stage)
        await stage.commit(group("cattle", 1))
        await stage.operator.pause(group=G, who="ann", why="lunch")
        stage.kill("g", "3")
        await stage.until(lambda: len(stage.alive("g")) == 3)
        assert stage.versions("g") == {0}
        await stage.operator.resume(group=G, who="ann", why="back")
        await stage.converged()
        assert stage.versions("g") == {1}


class UnpreparableOld(SimulatedFlavor):
    """A flavor that cannot prepare logical ID `c` with version 0 any more."""

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        if spec.logical_id == "c" and self.refuses and msgspec.json.decode(bytes(properties))["Version"] == 0:
            raise errors.InvalidSpec([errors.Problem(path="Servers.c", message="missing")])
        return await super().prepare(properties=properties, spec=spec, allocation=allocation, index=index)

    refuses = False


async def _paused_with_an_unpreparable_slot(stage: Stage) -> None:
    await stage.commit(group("pets"))
    await proven(stage)
    assert isinstance(stage.flavor, UnpreparableOld)
    stage.flavor.refuses = True
    await stage.commit(group("pets", 1))
    await stage.operator.pause(group=G, who="ann", why="lunch")


@in_virtual_time
async def test_a_slot_that_the_proven_version_cannot_prepare_gets_the_declared_one() -> None:
    async with Stage(flavor_class=UnpreparableOld) as stage:
        await _paused_with_an_unpreparable_slot(stage)
        stage.kill("g", "c")
        stage.kill("g", "b")
        await stage.until(lambda: len(stage.alive("g")) == 3)
        found = {slot: msgspec.json.decode(bytes(m.properties))["version"] for slot, m in stage.alive("g").items()}
        assert found == {"a": 0, "b": 0, "c": 1}


@in_virtual_time
async def test_a_logical_id_that_the_proven_version_does_not_have_gets_the_declared_one() -> None:
    async with Stage() as stage:
        await stage.commit(group("pets"))
        await proven(stage)
        await stage.commit(group("pets", 1, ids="a b c d"))
        await stage.operator.pause(group=G, who="ann", why="lunch")
        stage.kill("g", "b")
        await stage.until(lambda: len(stage.alive("g")) == 4)
        found = {slot: msgspec.json.decode(bytes(m.properties))["version"] for slot, m in stage.alive("g").items()}
        assert found == {"a": 0, "b": 0, "c": 0, "d": 1}


@in_virtual_time
async def test_a_logical_id_that_was_added_to_the_proven_version_later_is_healed_with_it() -> None:
    async with Stage() as stage:
        await stage.commit(group("pets"))
        await proven(stage)
        await stage.commit(group("pets", ids="a b c d"))
        await stage.converged()
        await stage.commit(group("pets", 1, ids="a b c d"))
        await stage.operator.pause(group=G, who="ann", why="lunch")
        stage.kill("g", "d")
        await stage.until(lambda: len(stage.alive("g")) == 4)
        assert stage.versions("g") == {0}


@in_virtual_time
async def test_a_version_of_another_flavor_is_not_prepared_by_the_declared_one() -> None:
    async with Stage() as stage:
        await stage.commit(group("cattle"))
        await proven(stage)
        other = group("cattle", 1)
        other["properties"]["Flavor"]["Plugin"] = "another"
        await stage.commit(other)
        await stage.operator.pause(group=G, who="ann", why="lunch")
        stage.kill("g", "3")
        await stage.until(lambda: len(stage.alive("g")) == 3)
        assert stage.versions("g") == {0, 1}


@in_virtual_time
async def test_a_version_that_fails_after_all_are_updated_and_before_it_is_proven_is_rolled_back_after_a_failover() -> (
    None
):
    store = MemoryStore()
    updating = {"OnFailure": "rollback", "BakeTime": "5m"}
    stage = Stage(store=store)
    async with stage:
        await stage.commit(group("cattle", updating=updating))
        await stage.until(lambda: G in stage.replica.declaration.record.proven)
        await stage.commit(group("cattle", 1, updating=updating))
        await stage.converged()
        assert stage.versions("g") == {1}
    async with Stage(store=store, simulator=stage.simulator) as second:
        await second.replica.active.wait()
        await second.converged()
        _fail_version(second.simulator, 1)
        await second.until(lambda: any("rollback by infrakit" in m for m in second.messages(Kind.COMMITTED)))
        await second.until(lambda: second.versions("g") == {0})
        await second.converged()


def _fail_version(simulator: Simulator, version: int) -> None:
    """Make one instance of a version unhealthy."""
    for machine in simulator.live():
        if msgspec.json.decode(bytes(machine.properties))["version"] == version:
            simulator.make_unhealthy(machine.id)
            return


@pytest.mark.parametrize("kind", KINDS)
@in_virtual_time
async def test_an_unhealthy_old_member_does_not_stop_the_return_to_the_proven_version(kind: str) -> None:
    async with Stage() as stage:
        await stage.commit(group(kind))
        await stage.converged()
        await proven(stage)
        await stage.commit(group(kind, 1))
        await stage.until(lambda: stage.versions("g") == {0, 1})
        old = next(m.id for m in stage.alive("g").values() if b'"version":0' in bytes(m.properties))
        stage.simulator.make_unhealthy(old)
        await stage.commit(group(kind))
        await stage.converged(180)
        assert stage.versions("g") == {0}
        assert old not in {each.id for each in stage.simulator.live()}
        assert not is_paused(stage)
