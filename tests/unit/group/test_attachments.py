"""Identity is address and volume: a pet without its declared attachment has not converged, and is not destroyed."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from infrakit.group.plan import decide
from infrakit.group.plan.classification import unattached
from infrakit.instances.simulator import Simulator
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.manager import Verdict
from infrakit.spi.values import Allocation, Attachment, Description, GroupID, LogicalID, State
from tests import worlds
from tests.stage import MinimalProvider, Stage, in_virtual_time, pets

DECLARED = {LogicalID("a"): (Attachment(id="v-1", type="volume"), Attachment(id="v-2", type="volume"))}


@in_virtual_time
async def test_a_pet_that_loses_its_volume_is_reported_and_not_destroyed() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b", volumes=True))
        await stage.converged()
        machine = stage.alive("db")["a"]
        volumes = machine.attachments
        stage.simulator.detach(machine.id)
        await stage.until(lambda: not stage.is_converged(), within_s=5.0)
        what = "does not hold volume vol-a, which is declared"
        status = await stage.status("db")
        assert any(what in line.reason and "infrakit instance destroy" in line.remedy for line in status.waiting)
        assert (status.converged, status.live, status.healthy) == (False, 2, 1)
        (member,) = [m for m in await stage.operator.members(group=GroupID("db")) if m.id == machine.id]
        assert (member.health, member.note) == (Verdict.UNKNOWN, "not attached: volume vol-a")
        why = await stage.operator.why(group=GroupID("db"), subject="a")
        assert any(what in fact for fact in why.facts)
        assert any(what in line.reason for line in why.waiting)
        (planned,) = (await stage.operator.plan(text="", source="doc")).groups
        assert any(what in line.reason for line in planned.waiting)
        await asyncio.sleep(600)
        assert not stage.messages(Kind.DESTROYING)
        assert len([m for m in stage.messages(Kind.WAITING) if what in m]) == 1
        machine.attachments, machine.description = volumes, None
        stage.simulator.make_unhealthy(machine.id)  # a change that the listing shows
        machine.unhealthy_at = float("inf")
        await stage.converged(within_s=120.0)


@in_virtual_time
async def test_a_new_leader_knows_what_is_declared() -> None:
    async with Stage() as first:
        await first.commit(pets("db", "a", volumes=True))
        await first.converged()
    first.simulator.detach(first.alive("db")["a"].id)
    async with Stage(store=first.store, simulator=first.simulator) as new_leader:
        await asyncio.sleep(30)
        assert not new_leader.is_converged()
        assert not new_leader.messages(Kind.CONVERGED)
        assert "vol-a" in new_leader.messages(Kind.WAITING)[0]


class ReportsNone(MinimalProvider):
    """A provider that does not report attachments."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._list = simulator.describe_instances
        self.describe_instances = self._describe

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listing = await self._list(tags=tags, properties=properties)
        return [msgspec.structs.replace(each, attachments=msgspec.UNSET) for each in listing]


@in_virtual_time
async def test_a_provider_that_reports_no_attachments_is_not_judged_by_them() -> None:
    async with Stage(provider=ReportsNone) as stage:
        await stage.commit(pets("db", "a b", volumes=True))
        await stage.converged()


@in_virtual_time
async def test_a_rolling_update_adds_a_volume() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b"))
        await stage.converged()
        await stage.commit(pets("db", "a b", volumes=True))
        await stage.converged()
        assert [m.attachments[0].id for m in stage.alive("db").values()] == ["vol-a", "vol-b"]


class FailsAtFirst(SimulatedFlavor):
    """Answers which attachments it declares at the third request only."""

    requests = 0

    async def attachments(
        self, *, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        type(self).requests += 1
        if type(self).requests in (2, 3):
            raise errors.Unreachable("connection refused")
        return await super().attachments(properties=properties, allocation=allocation)


@in_virtual_time
async def test_the_flavor_is_asked_once_for_each_declaration_and_again_after_an_error() -> None:
    async with Stage() as first:
        await first.commit(pets("db", "a", volumes=True))
        await first.converged()
    first.simulator.detach(first.alive("db")["a"].id)
    FailsAtFirst.requests = 1
    async with Stage(store=first.store, simulator=first.simulator, flavor_class=FailsAtFirst) as stage:
        await stage.until(lambda: any("vol-a" in m for m in stage.messages(Kind.WAITING)), within_s=10.0)
        await asyncio.sleep(120)
        assert FailsAtFirst.requests == 4


@pytest.mark.parametrize(
    ("held", "state", "lacking"),
    [
        (("v-1", "v-2"), State.RUNNING, []),
        (("v-2", "other"), State.RUNNING, ["v-1"]),
        ((), State.UNSPECIFIED, ["v-1", "v-2"]),
        ((), State.PENDING, []),
        ((), State.FINISHED, []),
        (None, State.RUNNING, []),
    ],
)
def test_what_a_member_lacks(held: tuple[str, ...] | None, state: State, lacking: list[str]) -> None:
    pet = worlds.pet("a", state=state)
    if held is not None:
        found = tuple(Attachment(id=each, type="volume") for each in held)
        pet.description = msgspec.structs.replace(pet.description, attachments=found)
    observed = worlds.view(pet, pets=True)
    observed.attach(DECLARED, worlds.NEW)
    assert [each.id for each in unattached(worlds.want(ids="a"), observed, pet)] == lacking
    outdated = msgspec.structs.replace(pet, hash=worlds.OLD)
    assert not unattached(worlds.want(ids="a"), observed, outdated)


def test_nothing_has_converged_before_the_flavor_has_said_what_is_declared() -> None:
    world = worlds.view(worlds.pet("a"), pets=True)
    world.attachments_of = ""
    plan = decide(worlds.want(ids="a"), world)
    assert not plan.converged
    assert any("waiting for the flavor's answer about attachments" in each.reason for each in plan.blocked)
    world.attach({}, worlds.NEW)
    assert decide(worlds.want(ids="a"), world).converged
