"""A volume has one holder, also when it is declared for another logical ID (law 2)."""

import asyncio
from typing import Any

import msgspec
import pytest

from infrakit.group.orders import Orders
from infrakit.group.plan import decide
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.values import Allocation, Attachment, Description, Health, InstanceID, LogicalID, State
from tests import worlds
from tests.stage import MinimalProvider, Stage, in_virtual_time, pets

SHARING = Faults(exclusive=False, destroy=Spread(low=5.0, high=5.0), provision=Spread(low=1.0, high=1.0))


class Named(SimulatedFlavor):
    """Pets are named `ID.VOLUME`: the part behind the point is the volume."""

    async def attachments(self, *, properties: Any, allocation: Allocation) -> dict[LogicalID, tuple[Attachment, ...]]:
        del properties
        return {each: (_volume(each),) for each in allocation.logical_ids or ()}

    async def prepare(self, **more: Any) -> values.InstanceSpec:
        spec = await super().prepare(**more)
        assert spec.logical_id is not None
        return msgspec.structs.replace(spec, attachments=(_volume(spec.logical_id),))


def _volume(logical_id: LogicalID) -> Attachment:
    return Attachment(id=f"vol-{logical_id.partition('.')[2]}", type="volume")


class WithoutReports(MinimalProvider):
    """A provider that does not report attachments."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.describe_instances = self._describe

    async def _describe(self, **more: Any) -> list[Description]:
        listed = await self._simulator.describe_instances(**more)
        return [msgspec.structs.replace(each, attachments=msgspec.UNSET) for each in listed]


async def second_holders(on: Stage) -> set[str]:
    """Return the volumes that two live instances hold at the same time, until the group has converged."""
    found: set[str] = set()
    for _ in range(20_000):
        held = [each.id for machine in on.simulator.live() for each in machine.attachments]
        found |= {each for each in held if held.count(each) > 1}
        if on.is_converged():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(on.recent_events())


@pytest.mark.parametrize("provider", [None, WithoutReports])
@pytest.mark.parametrize("quorum", [False, True])
@in_virtual_time
async def test_another_logical_id_with_the_volume_waits_until_the_first_has_terminated(
    provider: Any, *, quorum: bool
) -> None:
    async with Stage(faults=SHARING, flavor_class=Named, provider=provider) as on:
        await on.commit(pets("db", "a.1 b.2 c.3", quorum=quorum))
        await on.converged()
        await on.commit(pets("db", "a.1 b.2 d.3", quorum=quorum))
        assert await second_holders(on) == set()
        assert set(on.alive("db")) == {"a.1", "b.2", "d.3"}
        assert on.simulator.calls["provision"] == 4
        (waited,) = [each for each in on.messages(Kind.WAITING) if "d.3 needs volume vol-3" in each]
        assert "must terminate first" in waited


@in_virtual_time
async def test_a_volume_that_moves_to_another_group_waits_too() -> None:
    async with Stage(faults=SHARING, flavor_class=Named) as on:
        await on.commit(pets("db", "a.1 c.3"), pets("log", "x.9"))
        await on.converged()
        await on.commit(pets("db", "a.1"), pets("log", "x.9 d.3"))
        assert await second_holders(on) == set()
        assert set(on.alive("log")) == {"x.9", "d.3"}
        assert [
            each for each in on.messages(Kind.REFUSED) if "d.3 needs volume vol-3, which sim-3 of the group db" in each
        ]


class LateAnswers(MinimalProvider):
    """A provider that creates at once, and answers five seconds later."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.provision = self._provision

    async def _provision(self, *, spec: values.InstanceSpec) -> InstanceID:
        created = await self._simulator.provision(spec=spec)
        await asyncio.sleep(5.0)
        return created


@in_virtual_time
async def test_a_creation_in_flight_may_hold_the_volume() -> None:
    listed_late = msgspec.structs.replace(SHARING, lag=Spread(low=10.0, high=10.0), lag_max=12.0)
    async with Stage(faults=listed_late, flavor_class=Named, provider=LateAnswers) as on:
        await on.commit(pets("db", "a.1"))
        await on.converged()
        await on.commit(pets("db", "a.1 c.3"))
        await on.until(lambda: "c.3" in on.alive("db"))
        await on.commit(pets("db", "a.1 d.3"))
        assert await second_holders(on) == set()
        assert set(on.alive("db")) == {"a.1", "d.3"}


@in_virtual_time
async def test_volumes_that_are_exchanged_wait_for_an_operator() -> None:
    """Each of two needs the volume of the other one: neither is replaced before the operator destroys one."""

    class Exchanged(Named):
        exchanged = False

        async def attachments(self, *, properties: Any, allocation: Allocation) -> dict[LogicalID, Any]:
            found = await super().attachments(properties=properties, allocation=allocation)
            if self.exchanged:
                first, second = sorted(found)
                found[first], found[second] = found[second], found[first]
            return found

        async def prepare(self, **more: Any) -> values.InstanceSpec:
            spec = await super().prepare(**more)
            if not self.exchanged:
                return spec
            other = LogicalID("b.2" if spec.logical_id == "a.1" else "a.1")
            return msgspec.structs.replace(spec, attachments=(_volume(other),))

    async with Stage(faults=SHARING, flavor_class=Exchanged) as on:
        await on.commit(pets("db", "a.1 b.2"))
        await on.converged()
        Exchanged.exchanged = True
        await on.commit(pets("db", "a.1 b.2", version=1))
        await on.until(lambda: [b for b in on.controller("db").plan.blocked if "needs volume" in b.reason])
        await asyncio.sleep(120)
        (block,) = [b for b in on.controller("db").plan.blocked if "needs volume" in b.reason]
        (other,) = on.alive("db").values()
        assert block.remedy.endswith(f"infrakit instance destroy {other.id}")
        await on.operator.destroy_instance(instance=other.id, who="ann", why="exchange")
        assert await second_holders(on) == set()
        assert len(on.alive("db")) == 2


def test_nothing_is_created_beside_an_undeclared_instance_before_the_flavor_names_the_volumes() -> None:
    held = tuple(Attachment(id=each, type="volume") for each in ("vol-1", "vol-2"))
    before, now = {LogicalID("c"): held[:1]}, {LogicalID("d"): held[1:]}
    world = worlds.view(worlds.pet("a"), worlds.pet("c"), pets=True)
    world.attach(before, worlds.OLD)
    plan = decide(worlds.want(ids="a d"), world)
    assert worlds.verbs(plan) == [("destroy", "i-c")]
    (block,) = (each for each in plan.blocked if each.subject == "d")
    assert block.rule == "one-per-volume"
    assert "which volumes d needs is not known yet, and i-c may hold them" in block.reason
    world.attach(now, worlds.NEW)
    assert ("create", "d") in worlds.verbs(decide(worlds.want(ids="a d"), world))
    world.attach(dict.fromkeys(now, held[:1]), worlds.NEW)
    assert worlds.verbs(decide(worlds.want(ids="a d"), world)) == [("destroy", "i-c")]


@pytest.mark.parametrize("requested", ["pending", "listed"])
def test_what_an_earlier_leader_requested_may_hold_any_volume(requested: str) -> None:
    world = worlds.view(worlds.pet("a"), pets=True)
    if requested == "pending":
        world.pending[values.Slot("c")] = worlds.pending("unknown")
    else:
        world.members[InstanceID("i-c")] = worlds.pet("c", state=State.PENDING)
    world.attach({LogicalID("d"): (Attachment(id="vol-1", type="volume"),)}, worlds.NEW)
    plan = decide(worlds.want(ids="a d"), world)
    assert ("create", "d") not in worlds.verbs(plan)
    assert any(
        each.subject == "d" and each.rule == "one-per-volume" and "may hold it" in each.reason for each in plan.blocked
    )
    world.pending.clear()
    world.members.pop(InstanceID("i-c"), None)
    assert ("create", "d") in worlds.verbs(decide(worlds.want(ids="a d"), world))


def test_nothing_is_created_beside_what_is_not_declared_before_the_flavor_has_answered() -> None:
    world = worlds.view(worlds.pet("a"), pets=True)
    world.pending[values.Slot("c")], world.attachments_of = worlds.pending("unknown"), ""
    plan = decide(worlds.want(ids="a d"), world)
    assert ("create", "d") not in worlds.verbs(plan)
    assert any("the instance that was requested for c may hold them" in each.reason for each in plan.blocked)
    world.attach({}, worlds.NEW)
    assert ("create", "d") in worlds.verbs(decide(worlds.want(ids="a d"), world))


def test_a_quorum_of_new_members_with_the_volumes_of_old_ones_begins_with_an_old_one() -> None:
    held = {each: (Attachment(id=f"vol-{each}", type="volume"),) for each in "abc"}
    world = worlds.view(*(worlds.pet(each) for each in "abc"), pets=True)
    world.attach({LogicalID(each): volumes for each, volumes in held.items()}, worlds.OLD)
    world.attach({LogicalID("d"): held["b"]}, worlds.NEW)
    assert worlds.verbs(decide(worlds.want(ids="d", quorum=True), world)) == [("destroy", "i-b")]
    world.attach({LogicalID("d"): ()}, worlds.NEW)  # a new volume: it is created first
    assert worlds.verbs(decide(worlds.want(ids="d", quorum=True), world)) == [("create", "d")]


@pytest.mark.parametrize("ids", ["d", "a d", "d e f"])
def test_unhealthy_members_with_the_volumes_of_new_ones_are_replaced_one_after_another_if_ordered(ids: str) -> None:
    """The new ones wait for their volumes, so none of them counts as a member that is unavailable already."""
    held = {each: (Attachment(id=f"vol-{each}", type="volume"),) for each in "abc"}
    world = worlds.view(*(worlds.pet(each, Health.UNHEALTHY) for each in "abc"), pets=True)
    world.attach({LogicalID(each): volumes for each, volumes in held.items()}, worlds.OLD)
    new = [each for each in ids.split() if each != "a"]
    world.attach({LogicalID(i): volumes for i, volumes in zip(new, reversed(held.values()), strict=False)}, worlds.NEW)
    orders = Orders(despite_unhealthy=(InstanceID("i-b"), InstanceID("i-c")))
    assert worlds.verbs(decide(worlds.want(ids=ids, quorum=True), world)) == []
    assert len(worlds.verbs(decide(worlds.want(ids=ids, quorum=True, orders=orders), world))) == 1
