"""A provider that drops tokens, and leaders that change while creations are in flight: no member is destroyed."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from infrakit.group.actions import Destroy, Provision
from infrakit.group.plan import decide
from infrakit.group.state import matching
from infrakit.group.state.creation import Phase
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.instance import Instance
from infrakit.spi.values import InstanceID, InstanceSpec, Slot
from tests import worlds
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets
from tests.unit.group.test_tags import DROPPED, REWRITTEN, ChangesTags, ListsWithoutLogicalID

EXPIRY_S = 120.0 + 2 * 30.0  # no call of the previous leader takes effect later, and is not listed
GROUPS = {
    "cattle": cattle("web", 12),
    "pets": pets("web", "a b c"),
    "quorum": pets("web", "a b c", quorum=True),
    "volumes": pets("web", "a b c", quorum=True, volumes=True),
}


class DropsSlots(ChangesTags):
    """A provider that keeps the tag of the group only."""

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = {values.TAG_GROUP: (spec.tags or {})[values.TAG_GROUP]}
        return await self._simulator.provision(spec=msgspec.structs.replace(spec, tags=tags))


def dropping(version: str) -> Callable[[Simulator], Instance]:
    return lambda simulator: ChangesTags(simulator, version, token=False)


async def created(group: dict[str, Any], size: int, provider: Callable[[Simulator], Instance], faults: Faults) -> Stage:
    """Let a leader end as soon as all instances live, with every intent still recorded."""
    async with Stage(provider=provider, faults=faults) as first:
        await first.commit(group)
        await first.until(lambda: len(first.simulator.live()) == size)
    return first


def living(stage: Stage) -> list[int]:
    """Collect how many instances live, from now on."""
    counts = [len(stage.simulator.live())]
    stage.simulator.watchers.append(lambda _what, _machine: counts.append(len(stage.simulator.live())))
    return counts


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("version", [DROPPED, REWRITTEN])
@pytest.mark.parametrize(("lag_s", "tokens"), [(0.0, True), (0.0, False), (30.0, False)])
@in_virtual_time
async def test_the_next_leader_destroys_and_creates_nothing(
    lag_s: float, tokens: bool, version: str, group: dict[str, Any]
) -> None:
    size = 12 if group is GROUPS["cattle"] else 3
    faults = Faults(exclusive=False, tokens=tokens, lag=Spread(low=lag_s, high=lag_s))
    first = await created(group, size, dropping(version), faults)
    counts = living(first)
    async with Stage(provider=dropping(version), store=first.store, simulator=first.simulator) as leader:
        await leader.converged()
        await asyncio.sleep(EXPIRY_S + 600.0)
        assert leader.is_converged()
        assert set(counts) == {size}
        assert not leader.controller("web").view.pending
        assert first.simulator.calls["provision"] == size
        assert not leader.messages(Kind.DESTROYING)
        assert "does not keep the tag" in " ".join(leader.messages(Kind.REFUSED))


@pytest.mark.parametrize("version", [DROPPED, REWRITTEN])
@in_virtual_time
async def test_instances_that_were_created_twice_are_removed_and_no_more(version: str) -> None:
    faults = Faults(lag=Spread(low=30.0, high=30.0))  # it promises to honour the tokens that it drops
    first = await created(cattle("web", 12), 12, dropping(version), faults)
    counts = living(first)
    async with Stage(provider=dropping(version), store=first.store, simulator=first.simulator) as leader:
        await leader.until(lambda: max(counts) == 24)
        await leader.until(lambda: counts[-1] == 12, within_s=12 * 40.0 + EXPIRY_S)
        await asyncio.sleep(600)
        assert min(counts) == 12
        assert len(leader.messages(Kind.DESTROYING)) == 12


@pytest.mark.parametrize("tokens", [True, False])
@in_virtual_time
async def test_without_a_slot_one_is_replaced_once_the_creations_are_settled(tokens: bool) -> None:
    def provider(simulator: Simulator) -> Instance:
        return DropsSlots(simulator, DROPPED, token=False)

    first = await created(cattle("web", 12), 12, provider, Faults(tokens=tokens))
    counts = living(first)
    async with Stage(provider=provider, store=first.store, simulator=first.simulator) as leader:
        await asyncio.sleep(119.0)
        assert set(counts) == {12}
        await asyncio.sleep(600.0)
        assert min(counts) >= 11
        assert counts[-1] == 12
        assert len(leader.messages(Kind.DESTROYING)) == 1


@pytest.mark.parametrize("quorum", [True, False])
@pytest.mark.parametrize(("lag_s", "tokens"), [(0.0, True), (0.0, False), (30.0, False)])
@in_virtual_time
async def test_a_pet_without_a_logical_id_and_a_token_is_known_by_its_volume_before_its_creation_is_settled(
    lag_s: float, tokens: bool, quorum: bool
) -> None:
    def provider(simulator: Simulator) -> Instance:
        changed = ListsWithoutLogicalID(simulator, token=False)
        changed.removed = "b"
        return changed

    faults = Faults(tokens=tokens, lag=Spread(low=lag_s, high=lag_s))
    first = await created(pets("db", "a b c", volumes=True, quorum=quorum), 3, MinimalProvider, faults)
    async with Stage(provider=provider, store=first.store, simulator=first.simulator) as leader:
        await leader.converged()
        await asyncio.sleep(EXPIRY_S + 60.0)
        assert leader.is_converged()
        assert first.simulator.calls["provision"] == 3
        assert not leader.messages(Kind.DESTROYING)


@in_virtual_time
async def test_a_member_that_terminates_is_created_again_once() -> None:
    first = await created(pets("db", "a b c"), 3, dropping(DROPPED), Faults(tokens=False, exclusive=False))
    counts = living(first)
    async with Stage(provider=dropping(DROPPED), store=first.store, simulator=first.simulator) as leader:
        await leader.converged()
        leader.kill("db", "b")
        await leader.until(lambda: counts[-1] == 3)
        await leader.converged()
        await asyncio.sleep(EXPIRY_S)
        assert max(counts) == 3
        assert first.simulator.calls["provision"] == 4


@pytest.mark.parametrize("pets", [False, True])
@pytest.mark.parametrize("phase", ["unknown", "recorded", "calling"])
def test_an_intent_whose_slot_has_a_member_without_a_token_counts_as_that_member(phase: str, pets: bool) -> None:
    world = worlds.view(*(worlds.member(each, pets=pets) for each in "123"), pets=pets)
    world.pending = {Slot("2"): worlds.pending(phase)}
    plan = decide(worlds.want(None if pets else 3, "1 2 3" if pets else ""), world)
    assert not [action for action in plan.actions if isinstance(action, Provision | Destroy)]
    assert world.settled().keys() == {"2"}
    world.presume_absent()
    assert not world.pending[Slot("2")].presumed_absent


@pytest.mark.parametrize(
    ("phase", "ended_s", "listed_at", "settled_at"),
    [
        (Phase.UNKNOWN, -120.0, 900.0, worlds.NOW + 120.0),  # a call may take effect until then
        (Phase.UNKNOWN, 500.0, 900.0, 900.0),
        (Phase.CALLING, 500.0, 900.0, math.inf),  # its answer is awaited
    ],
)
def test_it_is_settled_when_no_call_can_create_another(
    phase: Phase, ended_s: float, listed_at: float, settled_at: float
) -> None:
    member = worlds.member("1")
    member.listed_at = listed_at
    pending = {Slot("1"): worlds.pending(phase, ended_s=ended_s)}
    assert matching.presumed(pending, {member.id: member}, ()) == {"1": settled_at}
    assert matching.presumed(pending, {member.id: member}, {Slot("1")}) == {}
    pending[Slot("1")].instance = InstanceID("i-other")
    assert matching.presumed(pending, {member.id: member}, ()) == {}


def test_surplus_pets_that_a_creation_may_have_made_are_not_removed_before_it_is_settled() -> None:
    world = worlds.view(worlds.pet("a"), worlds.pet(None, name="i-9"), pets=True)
    world.pending = {Slot("b"): worlds.pending("unknown", ended_s=-100.0)}
    want = worlds.want(ids="a b", tokens=False)
    plan = decide(want, world)
    assert not [action for action in plan.actions if isinstance(action, Destroy)]
    assert [block.rule for block in plan.blocked if block.subject == "i-9"] == ["one-intent"]
    world.pending = {}
    world.members[InstanceID("i-b")] = worlds.pet("b")
    assert [a.subject for a in decide(want, world).actions if isinstance(a, Destroy)] == ["i-9"]
