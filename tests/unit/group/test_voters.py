"""A quorum whose flavor lists its voters: what it can lose is counted from the list, not from the declaration."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from infrakit.gate.voters import AGE_S_MAX
from infrakit.group.probers import DEADLINE_S
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.flavor import Voter
from infrakit.spi.values import Allocation, Description, GroupID
from tests.stage import Stage, in_virtual_time, pets

DB = GroupID("db")
ALIEN = Voter(id="x", name="alien", healthy=False)


class VotingFlavor(SimulatedFlavor):
    """Each instance is a voter, and healthy if its machine is; tests add others, or make the list unreadable."""

    others: tuple[Voter, ...] = ()
    failure: Exception | None = None
    hanging = False
    answer: Any = None

    async def voters(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[Voter]:
        del properties, allocation
        if self.hanging:
            await asyncio.get_running_loop().create_future()
        if self.failure is not None:
            raise self.failure
        if self.answer is not None:
            return self.answer  # type: ignore[no-any-return]
        own = (
            Voter(id=each.id, name=str(each.logical_id), instances=(each.id,), healthy=self._is_healthy(each))
            for each in instances
        )
        return [*own, *self.others]

    def _is_healthy(self, instance: Description) -> bool:
        return self._simulator.is_healthy(instance.id)


def flavor_of(stage: Stage) -> VotingFlavor:
    assert isinstance(stage.flavor, VotingFlavor)
    return stage.flavor


def refusals(stage: Stage) -> list[str]:
    return [block.reason for block in stage.controller("db").blocked if block.rule == "guard"]


async def _converged(stage: Stage, members: str = "a b c") -> None:
    await stage.commit(pets("db", members, quorum=True))
    await stage.converged()


@in_virtual_time
async def test_a_foreign_voter_that_is_down_stops_a_rolling_update() -> None:
    async with Stage(flavor_class=VotingFlavor) as stage:
        await _converged(stage)
        flavor_of(stage).others = (ALIEN,)
        before = set(stage.simulator.machines)
        await stage.commit(pets("db", "a b c", quorum=True, version=1))
        await asyncio.sleep(300)
        assert set(stage.simulator.machines) == before
        (why,) = refusals(stage)
        assert "2 of 4 listed voters would be left healthy (not healthy: alien), and the quorum needs 3" in why
        status = await stage.status("db")
        assert status.quorum == "3 of 4 listed voters are healthy; the quorum can lose none of them"
        assert status.quorum in (await stage.operator.why(group=DB)).facts
        flavor_of(stage).others = ()
        await stage.converged()
        assert stage.versions("db") == {1}


@in_virtual_time
async def test_an_operator_cannot_destroy_an_instance_that_the_majority_needs() -> None:
    async with Stage(flavor_class=VotingFlavor) as stage:
        await _converged(stage)
        flavor_of(stage).others = (ALIEN,)
        await asyncio.sleep(5)
        victim = stage.alive("db")["a"].id
        await stage.operator.destroy_instance(instance=victim, who="ann", why="test")
        await asyncio.sleep(100)
        assert stage.alive("db")["a"].id == victim
        flavor_of(stage).others = ()
        await stage.until(lambda: stage.alive("db").get("a") and stage.alive("db")["a"].id != victim)


@pytest.mark.parametrize("how", ["fails", "hangs", "is no list"])
def test_without_a_list_no_healthy_voter_is_destroyed_and_a_terminated_one_is_healed(how: str) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor_class=VotingFlavor) as stage:
            await _converged(stage)
            flavor = flavor_of(stage)
            flavor.failure = errors.Unreachable("no leader") if how == "fails" else None
            flavor.hanging, flavor.answer = how == "hangs", 7 if how == "is no list" else None
            await asyncio.sleep(AGE_S_MAX + DEADLINE_S + 5)
            killed = stage.kill("db", "b")
            await stage.until(lambda: "b" in stage.alive("db") and stage.alive("db")["b"].id != killed)
            before = {slot: machine.id for slot, machine in stage.alive("db").items()}
            await stage.commit(pets("db", "a b c", quorum=True, version=1))
            await asyncio.sleep(300)
            assert {slot: machine.id for slot, machine in stage.alive("db").items()} == before
            assert any("the list of its voters is unknown" in each for each in refusals(stage))
            assert "is not known" in (await stage.status("db")).quorum
            flavor.failure, flavor.hanging, flavor.answer = None, False, None
            await stage.converged()
            assert stage.versions("db") == {1}

    scenario()


@in_virtual_time
async def test_an_unhealthy_member_is_replaced_while_the_list_is_unknown() -> None:
    async with Stage(flavor_class=VotingFlavor) as stage:
        await _converged(stage)
        flavor_of(stage).failure = errors.Unreachable("no leader")
        await asyncio.sleep(AGE_S_MAX + 5)
        victim = stage.alive("db")["a"].id
        stage.simulator.make_unhealthy(victim)
        await stage.until(lambda: stage.alive("db").get("a") and stage.alive("db")["a"].id != victim)


@in_virtual_time
async def test_a_voter_that_fails_during_a_drain_stops_the_destruction() -> None:
    async with Stage(flavor_class=VotingFlavor) as stage:
        await _converged(stage)
        stage.flavor.faults = msgspec.structs.replace(stage.flavor.faults, drain_hang_rate=1.0)
        before = set(stage.simulator.machines)
        await stage.commit(pets("db", "a b c", quorum=True, version=1, updating={"DrainTimeout": "20s"}))
        await stage.until(lambda: stage.messages(Kind.DRAINING))
        flavor_of(stage).others = (ALIEN, msgspec.structs.replace(ALIEN, id="y"))
        await asyncio.sleep(100)
        assert set(stage.simulator.machines) == before
        assert "destroy" not in stage.simulator.calls


@in_virtual_time
async def test_the_destruction_of_the_whole_group_needs_no_majority() -> None:
    async with Stage(flavor_class=VotingFlavor) as stage:
        await _converged(stage)
        flavor_of(stage).others = (ALIEN,)
        await stage.operator.destroy(group=DB, who="ann", why="down")
        await stage.until(lambda: not stage.simulator.live())
