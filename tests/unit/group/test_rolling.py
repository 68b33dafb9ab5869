"""Rolling updates on a simulated provider: in order, within the policy, and stopped by failures."""

import asyncio

import pytest

from infrakit.group.actions import Destroy
from infrakit.group.state.member import Member
from infrakit.instances.simulator import Faults, Spread
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.store import Document
from infrakit.spi.values import GroupID
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets


@in_virtual_time
async def test_a_rolling_update_replaces_one_member_after_the_other_and_waits_for_each() -> None:
    async with Stage(faults=Faults(boot=Spread(low=8.0))) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        await stage.commit(pets("db", "a b c", quorum=True, version=1))
        least = 3
        while not stage.is_converged():
            least = min(least, len(stage.alive("db")))
            await asyncio.sleep(0.05)
        assert least == 2
        assert stage.versions("db") == {1}
        order = [e.slot for e in stage.events if e.type is Kind.DESTROYING]
        assert order == ["a", "b", "c"]
        began = [e.timestamp for e in stage.events if e.type in {Kind.DESTROYING, Kind.CONVERGED}][1:]
        assert began == sorted(began)
        assert [m.split(" ")[-1] for m in stage.messages(Kind.ROLLOUT)] == ["started", "completed"]


@in_virtual_time
async def test_the_node_that_hosts_this_controller_is_updated_last() -> None:
    def is_self(member: Member) -> bool:
        return member.logical_id == "a"

    async with Stage(is_self=is_self) as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.converged()
        await stage.commit(pets("db", "a b c", version=1))
        await stage.until(lambda: len(stage.messages(Kind.DESTROYING)) == 3)
        assert [e.slot for e in stage.events if e.type is Kind.DESTROYING] == ["b", "c", "a"]
        await stage.converged()


@in_virtual_time
async def test_a_surge_creates_new_instances_before_it_destroys_old_ones() -> None:
    async with Stage() as stage:
        updating = {"MaxUnavailable": 0, "MaxSurge": 2, "Settle": "2s"}
        await stage.commit(cattle("web", 4, updating=updating))
        await stage.converged()
        await stage.commit(cattle("web", 4, version=1, updating=updating))
        least, most = 9, 0
        while not stage.is_converged():
            least, most = min(least, len(stage.simulator.live())), max(most, len(stage.simulator.live()))
            await asyncio.sleep(0.05)
        assert (least, most) == (4, 6)
        assert stage.versions("web") == {1}


@in_virtual_time
async def test_a_failing_version_pauses_its_rolling_update() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 4))
        await stage.converged()
        await stage.commit(cattle("web", 4, version=1, NeverHealthy=True))
        await stage.until(lambda: any("pause by infrakit" in m for m in stage.messages(Kind.COMMITTED)))
        await asyncio.sleep(300)
        assert len(stage.alive("web")) == 4
        assert stage.versions("web") == {0}  # healing has replaced the instance of the failed version
        status = await stage.status("web")
        assert status.phase == "paused"
        assert "infrakit group rollback web" in " ".join(w.remedy for w in status.waiting)
        await stage.operator.rollback(group=GroupID("web"), who="ann", why="a test")
        await stage.converged()
        assert stage.versions("web") == {0}


@in_virtual_time
async def test_an_old_instance_that_terminates_after_a_failed_rolling_update_keeps_its_version() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.converged()
        await stage.commit(pets("db", "a b c", version=1, Refuse=True))
        await stage.until(lambda: any("pause by infrakit" in m for m in stage.messages(Kind.COMMITTED)))
        stage.kill("db", "c")
        await stage.until(lambda: len(stage.alive("db")) == 3, within_s=30)
        assert stage.versions("db") == {0}


@in_virtual_time
async def test_a_failing_version_is_rolled_back_if_on_failure_is_rollback() -> None:
    async with Stage() as stage:
        rollback = {"OnFailure": "rollback"}
        await stage.commit(cattle("web", 4, updating=rollback))
        await stage.converged()
        await stage.commit(cattle("web", 4, version=1, updating=rollback, NeverHealthy=True))
        await stage.until(lambda: any("rollback by infrakit" in m for m in stage.messages(Kind.COMMITTED)))
        await stage.converged()
        assert stage.versions("web") == {0}


@in_virtual_time
async def test_a_commit_during_a_rolling_update_starts_from_the_existing_instances() -> None:
    async with Stage(faults=Faults(boot=Spread(low=3.0))) as stage:
        await stage.commit(cattle("web", 4))
        await stage.converged()
        await stage.commit(cattle("web", 4, version=1))
        await stage.until(lambda: stage.versions("web") == {0, 1})
        await stage.commit(cattle("web", 4, version=2))
        await stage.converged()
        assert stage.versions("web") == {2}


@in_virtual_time
async def test_cattle_become_pets_and_instances_without_a_logical_id_are_destroyed() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("g", 2))
        await stage.converged()
        await stage.commit(pets("g", "a b"))
        await stage.converged()
        assert sorted(stage.alive("g")) == ["a", "b"]
        assert len(stage.simulator.live()) == 2


@in_virtual_time
async def test_a_second_rollback_does_not_restore_the_version_that_was_rolled_back() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        await stage.commit(cattle("web", 2, version=1))
        await stage.operator.rollback(group=GroupID("web"), who="ann", why="a test")
        with pytest.raises(errors.Refused, match="was rolled back already"):
            await stage.operator.rollback(group=GroupID("web"), who="ann", why="again")
        await stage.commit(cattle("web", 2, version=2))
        await stage.operator.rollback(group=GroupID("web"), who="ann", why="another version may be")


class SlowLedger(MemoryStore):
    """A store whose ledger is slow while `slow` is set, so that each fencing check takes long."""

    slow = False

    async def read(self, *, name: str) -> Document:
        if self.slow and name == "ledger":
            await asyncio.sleep(0.3)
        return await super().read(name=name)

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        revision = await super().replace(name=name, body=body, expected=expected)
        if self.slow and name == "ledger":
            await asyncio.sleep(0.2)
        return revision


@in_virtual_time
async def test_a_destruction_in_its_fencing_check_is_not_started_for_an_older_declaration() -> None:
    store = SlowLedger()
    async with Stage(store=store) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        members = {machine.id for machine in stage.alive("db").values()}
        store.slow = True
        await stage.commit(pets("db", "a b c", quorum=True, version=1))
        await stage.until(
            lambda: any(isinstance(action, Destroy) for action in stage.controller("db").executor.doing), 30
        )
        assert not stage.messages(Kind.DESTROYING)
        await stage.commit(pets("db", "a b c", quorum=True))
        store.slow = False
        await asyncio.sleep(60)
        assert not stage.messages(Kind.DESTROYING)
        assert {machine.id for machine in stage.alive("db").values()} == members
