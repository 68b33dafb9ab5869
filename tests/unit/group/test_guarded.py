"""A group under its guard: one cause that makes its members unhealthy one by one, mistaken commits, second bearers."""

import asyncio
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from infrakit.gate.guard import Guard, Limits
from infrakit.group.actions import Destroy, Plan, Priority
from infrakit.group.guarded import guarded, limits
from infrakit.group.state.creation import Creation
from infrakit.group.state.membership import AGE_S_MAX, Membership
from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.instance import DestroyContext, Reason
from infrakit.spi.values import Description, GroupID, Health, InstanceID, Slot
from infrakit.stores.memory import MemoryStore
from tests import worlds
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

HOUR_S = 3600.0


async def _fails_one_by_one(stage: Stage, group: str, interval_s: float) -> set[str]:
    """From now on replacements never become healthy, and every interval another member becomes unhealthy."""
    before = {m.id: slot for slot, m in stage.alive(group).items()}
    stage.fault(never_healthy_rate=1.0)
    for victim in list(before):
        stage.simulator.make_unhealthy(victim)
        await asyncio.sleep(interval_s)
    await asyncio.sleep(HOUR_S)
    return {slot for slot, m in stage.alive(group).items() if m.id in before}


@pytest.mark.parametrize(
    ("size", "interval_s"), [(10, 10.0), (10, 40.0), (10, 120.0), (30, 60.0), (100, 10.0), (100, 120.0)]
)
@in_virtual_time
async def test_replacing_stops_when_it_does_not_help(size: int, interval_s: float) -> None:
    async with Stage(poll_s=max(1.0, size / 3)) as stage:
        await stage.commit(cattle("web", size))
        await stage.converged()
        kept = await _fails_one_by_one(stage, "web", interval_s)
        assert len(kept) >= size - size * 40 // 100  # the rest is unhealthy, and was not destroyed
        until_halted_s = (size * 40 // 100 + 1) * interval_s
        destroyed = stage.simulator.calls["destroy"]
        assert destroyed <= 2 * size * math.ceil(until_halted_s / HOUR_S)  # as many as could be created again
        assert stage.simulator.calls["provision"] <= size + destroyed
        assert len(stage.alive("web")) >= size - 1  # none was destroyed that could not be replaced
        refusals = [e.message for e in stage.events if e.type is Kind.REFUSED]
        assert any("MaxUnhealthy is" in each for each in refusals)
        await asyncio.sleep(HOUR_S)
        assert stage.simulator.calls["destroy"] == destroyed  # although as many creations are permitted again


@in_virtual_time
async def test_five_pets_that_fail_one_by_one_are_not_all_destroyed() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b c d e", volumes=True))
        await stage.converged()
        kept = await _fails_one_by_one(stage, "db", 30.0)
        assert len(kept) == 3
        assert stage.simulator.calls["provision"] <= 5 + 10 + 1


@in_virtual_time
async def test_replacing_stops_with_the_default_of_healing_too() -> None:
    async with Stage() as stage:
        group = cattle("web", 10)
        del group["properties"]["Healing"]
        await stage.commit(group)
        await stage.converged()
        kept = await _fails_one_by_one(stage, "web", 40.0)
        assert len(kept) >= 6


class Elsewhere(Simulator):
    """A provider that creates in one region and lists, and inspects, another."""

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        return ()

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        return None


@in_virtual_time
async def test_a_new_group_whose_instances_are_never_shown_is_not_created_without_bound() -> None:
    provider = Elsewhere(Faults(exclusive=False), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(cattle("web", 5))
        await asyncio.sleep(HOUR_S)
        assert provider.calls["provision"] <= 5 + 10
        assert not stage.is_converged()
        assert [e for e in stage.events if e.type is Kind.REFUSED]


@in_virtual_time
async def test_an_operator_resumes_a_group_whose_replacements_did_not_help() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 10))
        await stage.converged()
        await _fails_one_by_one(stage, "web", 30.0)
        stage.fault(never_healthy_rate=0.0)
        assert not stage.is_converged()
        await stage.operator.resume(group=GroupID("web"), despite_unhealthy=True, who="ann", why="repaired")
        await stage.converged(within_s=2 * HOUR_S)


@in_virtual_time
async def test_a_size_from_an_old_file_is_reached_slowly_enough_to_be_halted() -> None:
    async with Stage(faults=Faults(destroy=Spread(low=5.0, high=5.0))) as stage:
        await stage.commit(cattle("web", 300))
        await stage.converged()
        await stage.commit(cattle("web", 20))
        await asyncio.sleep(60)
        plan = stage.controller("web").plan
        assert len(plan.actions) <= 8  # the rest is blocked, with one reason
        assert [block.rule for block in plan.blocked] == ["scale-in"]
        await stage.operator.halt(group=GroupID("web"), who="ann", why="an old file")
        await asyncio.sleep(10)
        left = len(stage.alive("web"))
        await asyncio.sleep(HOUR_S)
        assert len(stage.alive("web")) == left > 100


def quorum(*needs: MembershipChange, **pending: Creation) -> Limits:
    """The limits of a quorum of a, b and c, of which c terminated; d is not declared any more, and unhealthy."""
    view = worlds.view(worlds.pet("a"), worlds.pet("b"), worlds.pet("d", Health.UNHEALTHY), pets=True)
    view.membership = Membership(needs=needs, requested_at=worlds.NOW - 2 * AGE_S_MAX)
    view.pending = {Slot(slot): creation for slot, creation in pending.items()}
    return limits(worlds.want(ids="a b c", quorum=True), view)


@pytest.mark.parametrize(
    ("phase", "votes"), [("recorded", 3), ("refused", 3), ("calling", 4), ("created", 4), ("unknown", 4)]
)
def test_what_a_creation_may_have_created_may_have_a_vote(phase: str, votes: int) -> None:
    assert quorum().votes == 3
    assert quorum(c=worlds.pending(phase)).votes == votes
    assert quorum(a=worlds.pending(phase)).votes == votes  # a second one, although a exists


def test_a_creation_whose_instance_is_listed_is_counted_once() -> None:
    view = worlds.view(member := worlds.pet("a"), pets=True)
    view.pending = {Slot("a"): worlds.pending("created")}
    member.token = view.pending[Slot("a")].intent.token
    assert limits(worlds.want(ids="a b c", quorum=True), view).votes == 1


def test_a_member_that_the_list_needs_a_change_for_is_joining_however_old_that_is() -> None:
    fact = MembershipChange(id="fact", what="b is slow", instance=InstanceID("i-b"), due=False)
    promote = MembershipChange(id="promote", what="promote a", instance=InstanceID("i-a"))
    assert quorum(fact, promote, MembershipChange(id="remove", what="remove c")).joining == {"i-a"}
    assert limits(worlds.want(ids="a b c", quorum=True), worlds.view(worlds.pet("a"), pets=True)).joining == frozenset()


def test_a_plan_is_left_with_what_the_guard_permits() -> None:
    view, want = worlds.view(*(worlds.member(str(n)) for n in range(10))), worlds.want(10)
    actions = tuple(
        Destroy(
            instance=member.id,
            slot=member.slot,
            reason="it is the newest",
            rule="surplus",
            priority=Priority.COLLECT,
            drain=False,
            context=Reason.TERMINATE,
        )
        for member in view.members.values()
    )
    plan = guarded(Plan(actions=actions), Guard(), want, view)
    assert plan.actions == actions[:4]  # MaxUnhealthy
    (block,) = plan.blocked
    assert (block.rule, block.subject, block.refused) == ("guard", "g", True)
    assert "destroying 6 instances is refused" in block.reason


def _adopt_second_bearers(stage: Stage, group: str, logical_ids: str) -> None:
    """A host that had lost power is back, with older instances of these logical IDs, all healthy."""
    for logical_id in logical_ids.split():
        stage.simulator.adopt(
            tags={values.TAG_GROUP: group, values.TAG_CREATED: "2020-01-01T00:00:00Z"},
            logical_id=values.LogicalID(logical_id),
        )


@in_virtual_time
async def test_second_bearers_are_destroyed_one_after_the_other() -> None:
    async with Stage(faults=Faults(exclusive=False)) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        _adopt_second_bearers(stage, "db", "a b c")
        await stage.until(lambda: len(stage.simulator.live()) == 3)
        began = [e.seq for e in stage.events if e.type is Kind.DESTROYING]
        ended = [e.seq for e in stage.events if e.type is Kind.TERMINATED]
        assert len(began) == 3
        assert all(any(before < seq < after for seq in ended) for before, after in itertools.pairwise(began))


class Twice(Simulator):
    """A provider that lists each machine under two IDs."""

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listed = await super().describe_instances(tags=tags, properties=properties)
        return [*listed, *(msgspec.structs.replace(d, id=InstanceID(f"{d.id}-again")) for d in listed)]

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        await super().destroy(instance=InstanceID(instance.removesuffix("-again")), context=context)

    def is_healthy(self, instance: InstanceID) -> bool:
        return super().is_healthy(InstanceID(instance.removesuffix("-again")))


@in_virtual_time
async def test_a_provider_that_lists_each_machine_twice_never_costs_a_quorum_its_majority() -> None:
    provider = Twice(Faults(), random=random.Random(3))
    fewest = 5
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c d e", quorum=True))
        await stage.until(lambda: len(provider.live()) == 5)
        for _ in range(600):
            await asyncio.sleep(1.0)
            fewest = min(fewest, len(provider.live()))
    assert fewest >= 3


class WrongRegion(Simulator):
    """A provider whose credentials lead elsewhere while it is blind: listings are empty, every ID is unknown."""

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        return None if self.faults.blind else await super().inspect(instance=instance)


@pytest.mark.parametrize("inspects", [True, False])
@pytest.mark.parametrize("group", [pets("db", "a b c", volumes=True), cattle("db", 6)], ids=["pets", "cattle"])
@in_virtual_time
async def test_a_mass_disappearance_creates_nothing_and_destroys_nothing(group: dict[str, Any], inspects: bool) -> None:
    provider = WrongRegion(Faults(exclusive=False), random=random.Random(3))
    async with Stage(simulator=provider, provider=None if inspects else MinimalProvider) as stage:
        await stage.commit(group)
        await stage.converged()
        before = {m.id for m in provider.live()}
        stage.fault(blind=True)
        await asyncio.sleep(HOUR_S)
        assert {m.id for m in provider.live()} == before
        assert not stage.is_converged()
        refusals = [e.message for e in stage.events if e.type is Kind.REFUSED]
        assert any("have vanished and the provider shows no other one" in each for each in refusals)
        stage.fault(blind=False)
        await stage.converged()
        assert {m.id for m in provider.live()} == before


@in_virtual_time
async def test_a_larger_size_does_not_end_the_refusal_after_a_mass_disappearance() -> None:
    provider = WrongRegion(Faults(exclusive=False), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c d e", volumes=True))
        await stage.converged()
        stage.fault(blind=True)
        await asyncio.sleep(60)
        await stage.commit(pets("db", "a b c d e f g h i j k l m", volumes=True))
        await asyncio.sleep(HOUR_S)
        assert len(provider.live()) == 5
        stage.fault(blind=False)
        await stage.converged()
        assert len(provider.live()) == 13


@pytest.mark.parametrize("fails_over", [True, False])
@pytest.mark.parametrize("group", [pets("db", "a b c d e", volumes=True), cattle("db", 6)], ids=["pets", "cattle"])
@in_virtual_time
async def test_members_that_are_lost_while_all_have_vanished_are_replaced(
    group: dict[str, Any], *, fails_over: bool
) -> None:
    provider, store = WrongRegion(Faults(), random=random.Random(3)), MemoryStore()
    async with Stage(simulator=provider, store=store) as stage:
        await stage.commit(group)
        await stage.converged()
        stage.fault(blind=True)
        await stage.until(lambda: any(block.rule == "guard" for block in stage.controller("db").plan.blocked))
        size = len(provider.live())
        for machine in provider.live()[:3]:
            provider.kill(machine.id)
        await asyncio.sleep(60.0)
        if not fails_over:
            stage.fault(blind=False)
            await stage.converged()
    async with Stage(simulator=provider, store=store, seed=11) as later:
        await later.replica.active.wait()
        later.fault(blind=False)
        await later.converged()
        assert len(provider.live()) == size


@in_virtual_time
async def test_members_that_have_returned_prove_nothing_about_the_next_disappearance() -> None:
    provider = WrongRegion(Faults(exclusive=False), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c d e", volumes=True))
        await stage.converged()
        for away_s, back_s in ((60.0, 60.0), (60.0, 3.0), (600.0, 60.0)):
            stage.fault(blind=True)
            await asyncio.sleep(away_s)
            stage.fault(blind=False)
            await asyncio.sleep(back_s)
        assert provider.calls["provision"] == 5


class SlowDrain(SimulatedFlavor):
    """A drain takes 40 seconds."""

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        del properties, instance
        await asyncio.sleep(40.0)


@pytest.mark.parametrize("evicted", [True, False])
@in_virtual_time
async def test_a_quorum_that_loses_members_during_a_drain_keeps_its_majority(*, evicted: bool) -> None:
    async with Stage(faults=Faults(boot=Spread(low=5.0)), flavor_class=SlowDrain) as stage:
        await stage.commit(pets("db", "a b c d e", quorum=True))
        await stage.converged()
        if evicted:
            await stage.operator.destroy_instance(instance=stage.alive("db")["a"].id, who="ann", why="a test")
        else:
            await stage.commit(pets("db", "a b c d e", quorum=True, version=1))
        await stage.until(lambda: stage.messages(Kind.DRAINING))
        fewest = []

        def count(_what: str, _machine: Machine) -> None:
            fewest.append(sum(stage.simulator.is_healthy(each.id) for each in stage.simulator.live()))

        stage.simulator.watchers.append(count)
        for slot in "de":
            stage.simulator.make_unhealthy(stage.alive("db")[slot].id)
        await stage.converged()
        assert min(fewest) == 3


class Named(WrongRegion):
    """The same provider, which also names its account."""

    name = "account 7"

    async def identity(self) -> str:
        return self.name


@pytest.mark.parametrize("group", [pets("db", "a b c", volumes=True), cattle("db", 6)], ids=["pets", "cattle"])
@in_virtual_time
async def test_a_group_that_is_lost_whole_is_healed_if_the_account_is_known_to_be_the_same(
    group: dict[str, Any],
) -> None:
    provider = Named(Faults(), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(group)
        await stage.converged()
        before = {m.id for m in provider.live()}
        for machine in provider.live():
            provider.kill(machine.id)
        await stage.until(lambda: len(provider.live()) == len(before))
        await stage.converged()


@pytest.mark.parametrize("group", [pets("db", "a b c", volumes=True), cattle("db", 6)], ids=["pets", "cattle"])
@in_virtual_time
async def test_the_same_account_does_not_prove_a_short_disappearance(group: dict[str, Any]) -> None:
    provider, store = Named(Faults(exclusive=False), random=random.Random(3)), MemoryStore()
    async with Stage(simulator=provider, store=store) as stage:
        await stage.commit(group)
        await stage.converged()
        created = provider.calls["provision"]
        stage.fault(blind=True)
        await asyncio.sleep(5.0)
        stage.fault(blind=False)
        await stage.converged()
        assert provider.calls["provision"] == created
    provider.faults = msgspec.structs.replace(provider.faults, blind=True)
    async with Stage(simulator=provider, store=store, seed=11) as later:  # its first answer is empty
        await later.replica.active.wait()
        await asyncio.sleep(5.0)
        later.fault(blind=False)
        await later.converged()
        assert provider.calls["provision"] == created


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("fails_over", [False, True])
@in_virtual_time
async def test_a_mass_disappearance_does_not_end_the_destruction_of_a_group(fails_over: bool, resumed: bool) -> None:
    provider = WrongRegion(Faults(exclusive=False, destroy=Spread(low=20.0, high=20.0)), random=random.Random(3))
    store = MemoryStore()

    async def lasts(stage: Stage) -> None:
        await asyncio.sleep(HOUR_S)
        assert GroupID("db") in stage.controllers()
        assert len(provider.live()) >= 5
        refusals = [e.message for e in stage.events if e.type is Kind.REFUSED]
        assert any("the end of its destruction is refused: 5 of 6 members have vanished" in each for each in refusals)
        if resumed:
            await stage.operator.resume(group=GroupID("db"), despite_unhealthy=False, who="ann", why="it is gone")
            await stage.until(lambda: not stage.controllers())
            assert len(provider.live()) >= 5, "the operator said so"
            return
        stage.fault(blind=False)
        await stage.until(lambda: not stage.controllers())
        assert provider.live() == []

    async with Stage(simulator=provider, store=store) as stage:
        await stage.commit(pets("db", "a b c d e f", in_flight=1, volumes=True))
        await stage.converged()
        await stage.operator.destroy(group=GroupID("db"), who="ann", why="retired", volumes=not resumed)
        await stage.until(lambda: stage.messages(Kind.DESTROYING))
        stage.fault(blind=True)
        if not fails_over:
            await lasts(stage)
    if fails_over:
        async with Stage(simulator=provider, store=store, seed=11) as later:
            await later.replica.active.wait()
            await lasts(later)


@in_virtual_time
async def test_the_destruction_of_a_group_that_is_lost_whole_ends_in_the_same_account() -> None:
    provider = Named(Faults(), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c d", volumes=True))
        await stage.converged()
        stage.fault(destroy=Spread(low=30.0, high=30.0))
        await stage.operator.destroy(group=GroupID("db"), who="ann", why="retired", volumes=True)
        await stage.until(lambda: stage.messages(Kind.DESTROYING))
        for machine in provider.live():
            provider.kill(machine.id)
        await stage.until(lambda: not stage.controllers())


@in_virtual_time
async def test_a_new_leader_ends_a_destruction_whose_calls_the_previous_one_has_made() -> None:
    provider, store = WrongRegion(Faults(destroy=Spread(low=20.0, high=20.0)), random=random.Random(3)), MemoryStore()
    async with Stage(simulator=provider, store=store) as stage:
        await stage.commit(pets("db", "a b c d e f"))
        await stage.converged()
        await stage.operator.destroy(group=GroupID("db"), who="ann", why="retired")
        await stage.until(lambda: len(stage.messages(Kind.DESTROYING)) == 6)
    for machine in provider.live():  # the calls take effect while nobody leads
        provider.kill(machine.id)
    async with Stage(simulator=provider, store=store, seed=11) as later:
        await later.replica.active.wait()
        await later.until(lambda: not later.controllers())


@in_virtual_time
async def test_an_operator_says_that_a_vanished_group_does_not_exist() -> None:
    provider = WrongRegion(Faults(exclusive=False), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.converged()
        stage.fault(blind=True)
        for machine in provider.live():
            provider.kill(machine.id)
        await asyncio.sleep(HOUR_S)
        assert provider.live() == []
        stage.fault(blind=False)
        await stage.operator.resume(group=GroupID("db"), despite_unhealthy=False, who="ann", why="the rack is gone")
        await stage.converged()


@in_virtual_time
async def test_a_group_of_which_one_member_is_still_shown_is_healed() -> None:
    provider = WrongRegion(Faults(), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c d"))
        await stage.converged()
        for slot in "abc":
            provider.kill(stage.alive("db")[slot].id)
        await stage.converged()
