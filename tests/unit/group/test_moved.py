"""A logical ID that moves to another group while a creation of it is in flight gets no second bearer."""

import asyncio
import random

import msgspec
import pytest

from infrakit.group import elsewhere
from infrakit.group.elsewhere import Other
from infrakit.group.ledger import Intent
from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.spi.event import Kind
from infrakit.spi.group import Group
from infrakit.spi.values import GroupID, Slot, Token
from tests import worlds
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

DB = GroupID("db")
LAG_S = 60.0
FLIGHT_S = 120.0 + LAG_S  # a call takes effect for that long, and is listed

# How the logical ID `a` leaves the group `db`, and arrives in `other`.
FREED, DESTROYED, MOVED, CATTLE = "freed", "destroyed", "moved", "cattle"


def slow(answer: str, *, tokens: bool) -> Simulator:
    """A provider that creates, does not answer, lists late, and permits a second instance of a logical ID."""
    faults = Faults(exclusive=False, tokens=tokens, lag=Spread(low=LAG_S, high=LAG_S))
    return Simulator(msgspec.structs.replace(faults, **{answer: 1.0}), random=random.Random(3))


def bearers(simulator: Simulator) -> list[int]:
    """Collect how many live instances have the logical ID `a`, after each change."""
    counts: list[int] = []

    def count(_what: str, _machine: Machine) -> None:
        counts.append(sum(each.logical_id == "a" for each in simulator.live()))

    simulator.watchers.append(count)
    return counts


async def release(stage: Stage, how: str) -> None:
    """Remove the logical ID `a` from the group `db`, and declare it in `other`."""
    if how == FREED:
        await stage.operator.free(group=DB, who="ann", why="by hand")
    if how == DESTROYED:
        await stage.operator.destroy(group=DB, who="ann", why="by hand")
        await stage.until(lambda: DB not in stage.controllers())
    if how == MOVED:
        await stage.commit(pets("db", "b"), pets("other", "a"))
    elif how == CATTLE:
        await stage.commit(cattle("db", 1), pets("other", "a"))
    else:
        await stage.commit(pets("other", "a"))


async def only_one_lives(stage: Stage, counts: list[int]) -> None:
    """Wait until the creation is listed, terminate what another group has left, and wait for convergence."""
    await asyncio.sleep(FLIGHT_S + 100.0)
    stage.fault(hang_rate=0.0, lost_rate=0.0)
    if left := stage.alive("db").get("a"):  # freed: nothing destroys it but an operator
        assert not stage.is_converged()
        assert any(f"{left.id}, which belongs to the group db" in each for each in stage.messages(Kind.REFUSED))
        stage.simulator.kill(left.id)
    await stage.converged()
    await asyncio.sleep(FLIGHT_S)
    assert max(counts) == 1
    assert sum(each.logical_id == "a" for each in stage.simulator.live()) == 1
    assert list(stage.alive("other")) == ["a"]


@pytest.mark.parametrize("how", [FREED, DESTROYED, MOVED, CATTLE])
@pytest.mark.parametrize("inspects", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("answer", ["hang_rate", "lost_rate"])
@in_virtual_time
async def test_it_waits_for_the_creation_of_another_group(answer: str, tokens: bool, inspects: bool, how: str) -> None:
    simulator = slow(answer, tokens=tokens)
    counts = bearers(simulator)
    async with Stage(simulator=simulator, provider=None if inspects else MinimalProvider) as stage:
        await stage.commit(pets("db", "a"))
        await stage.until(lambda: simulator.calls.get("provision"))
        await release(stage, how)
        if how != DESTROYED:
            await asyncio.sleep(1.0)
            reported = [e for e in stage.events if e.type is Kind.WAITING and e.cause == "one-per-logical-id"]
            assert [(e.group, e.slot) for e in reported] == [("other", "a")]
            why = await stage.operator.why(group=GroupID("other"), subject="a")
            assert any("group db has requested an instance with logical ID a" in each.reason for each in why.waiting)
        await only_one_lives(stage, counts)


@pytest.mark.parametrize("how", [FREED, MOVED])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("answer", ["hang_rate", "lost_rate"])
@in_virtual_time
async def test_the_next_leader_waits_for_it_too(answer: str, tokens: bool, how: str) -> None:
    simulator = slow(answer, tokens=tokens)
    counts = bearers(simulator)
    async with Stage(simulator=simulator) as first:
        await first.commit(pets("db", "a"))
        await first.until(lambda: simulator.calls.get("provision"))
        await release(first, how)
    async with Stage(simulator=simulator, store=first.store) as second:
        await only_one_lives(second, counts)


@pytest.mark.parametrize("tokens", [True, False])
@in_virtual_time
async def test_a_creation_that_took_no_effect_delays_it_for_as_long_as_it_could(tokens: bool) -> None:
    simulator = slow("lost_rate", tokens=tokens)
    async with Stage(simulator=simulator) as stage:
        await stage.commit(pets("db", "a"))
        await stage.until(simulator.live)
        await stage.operator.free(group=DB, who="ann", why="by hand")
        simulator.kill(simulator.live()[0].id)  # before a listing has shown it
        await stage.commit(pets("other", "a"))
        stage.fault(lost_rate=0.0)
        await asyncio.sleep(FLIGHT_S - 5.0)
        assert not stage.alive("other")
        await stage.until(lambda: stage.alive("other"), within_s=10.0)
        await stage.converged()


@pytest.mark.parametrize("tokens", [True, False])
@in_virtual_time
async def test_declared_again_in_its_first_group_it_waits_for_the_second(tokens: bool) -> None:
    simulator = slow("lost_rate", tokens=tokens)
    counts = bearers(simulator)
    async with Stage(simulator=simulator) as stage:
        await stage.commit(pets("db", "a"))
        await stage.until(simulator.live)
        simulator.kill(simulator.live()[0].id)
        await stage.commit(pets("db", "b"), pets("other", "a"))
        await stage.until(lambda: stage.alive("other"))
        await stage.commit(pets("db", "a"), pets("other", "b"))
        await asyncio.sleep(2 * FLIGHT_S)
        stage.fault(lost_rate=0.0)
        await stage.converged()
        assert max(counts) == 1
        assert list(stage.alive("db")) == ["a"]


@in_virtual_time
async def test_a_recorded_creation_that_was_never_requested_delays_nothing() -> None:
    async with Stage(faults=Faults(provision=Spread(low=50.0, high=50.0))) as stage:
        await stage.commit(pets("db", "z a", in_flight=1))  # `a` waits for `z`
        await stage.until(lambda: stage.simulator.calls.get("provision"))
        await stage.operator.free(group=DB, who="ann", why="by hand")
        stage.fault(provision=Spread())
        await stage.commit(pets("other", "a"))
        await stage.until(stage.is_converged, within_s=10.0)


@in_virtual_time
async def test_creations_of_others_delay_no_group_that_does_not_share_their_logical_ids() -> None:
    async with Stage(faults=Faults(provision=Spread(low=50.0, high=50.0))) as stage:
        await stage.commit(cattle("web", 3), pets("db", "a"))
        await stage.until(lambda: stage.simulator.calls.get("provision") == 4)
        await stage.commit(pets("other", "1 2 b"))
        await stage.until(lambda: stage.simulator.calls.get("provision") == 7, within_s=5.0)
        assert not [e for e in stage.events if e.cause == "one-per-logical-id"]


PETS, CATTLE_NOW = worlds.declared(ids="a 1"), worlds.declared(2)


@pytest.mark.parametrize(
    ("versions", "plugin", "held"),
    [
        ((), "simulator", ["a", "1"]),  # not declared any more: what it was is not known
        ((PETS,), "simulator", ["a", "1"]),
        ((PETS,), "docker", []),  # the same address in another account
        ((CATTLE_NOW,), "simulator", ["a"]),
        ((CATTLE_NOW, PETS), "simulator", ["a", "1"]),
    ],
    ids=["freed", "pets", "another plugin", "cattle", "cattle that were pets"],
)
def test_which_creations_hold_a_logical_id(versions: tuple[Group, ...], plugin: str, held: list[str]) -> None:
    creating = {Slot(slot): Intent(token=Token(f"c1/g/{slot}/7"), hash="x", at=0.0) for slot in ("a", "1")}
    other = Other(name=GroupID("g"), creating=creating, versions=versions)
    found = elsewhere.creations([other], plugin=plugin, listed_from=0.0, lag_s=0.0)
    assert [each.logical_id for each in found] == held


def test_creations_of_a_group_that_is_not_declared_expire() -> None:
    creating = {Slot("a"): Intent(token=Token("c1/g/a/7"), hash="x", at=0.0)}
    other = Other(name=GroupID("g"), creating=creating, undeclared_since=100.0)
    for listed_from, holds in ((100.0, True), (100.0 + FLIGHT_S, True), (100.1 + FLIGHT_S, False)):
        found = elsewhere.creations([other], plugin="simulator", listed_from=listed_from, lag_s=LAG_S)
        assert bool(found) is holds
