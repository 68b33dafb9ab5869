"""The guard and the census together, at the worst moments of a failover."""

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from infrakit.gate.census import Census, History, KnownMember
from infrakit.gate.guard import Guard
from infrakit.group.actions import Plan
from infrakit.group.census import CensusKeeper
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.manager.lead.census import Censuses
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Description, Epoch, GroupID, InstanceID, InstanceSpec, Slot
from infrakit.stores.memory import MemoryStore
from tests import worlds
from tests.stage import Stage, cattle, in_virtual_time, pets
from tests.unit.group.test_census import DB, provider, successor
from tests.unit.group.test_guard_history import END_S, EndsLate


class AnswersLate(EndsLate):
    """A destruction takes effect after two minutes, and is not answered before."""

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        await super().destroy(instance=instance, context=context)
        await asyncio.sleep(END_S)


@in_virtual_time
async def test_what_the_previous_leader_was_destroying_counts_as_lost() -> None:
    """Else a new leader would replace as many unhealthy members again, while the first ones still end."""
    simulator = AnswersLate()
    group = cattle("db", 10, updating={"MaxUnavailable": 4})
    async with Stage(simulator=simulator) as first:
        await first.commit(group)
        await first.converged()
        await asyncio.sleep(120)
        await first.commit(cattle("db", 10, version=1, updating={"MaxUnavailable": 4}))
        await first.until(lambda: len(simulator.requested) == 4)
        await asyncio.sleep(6.0)
    async with successor(first) as second:
        await second.until(lambda: "db" in second.controllers() and second.controller("db").view.observed_at)
        others = [each.id for each in simulator.live() if each.id not in simulator.requested]
        for victim in others[:4]:
            simulator.make_unhealthy(victim)
        await asyncio.sleep(60.0)
    assert simulator.most == 4


@in_virtual_time
async def test_a_destruction_of_the_previous_leader_stays_in_the_ledger_while_it_may_take_effect() -> None:
    """Else the leader after the next would not wait for it."""
    simulator = AnswersLate()
    async with Stage(simulator=simulator) as first:
        await first.commit(cattle("db", 3))
        await first.converged()
        await first.scale("db", 2)
        await first.until(lambda: simulator.requested)
    async with successor(first) as second:
        await second.scale("db", 4)
        await second.until(lambda: simulator.calls["provision"] == 4)
        assert second.replica.term is not None
        assert simulator.requested
        assert second.replica.term.ledger.destroying(DB) == tuple(simulator.requested)
        await second.converged()
        await second.until(lambda: second.replica.term and not second.replica.term.ledger.destroying(DB))


@in_virtual_time
async def test_a_leader_that_ends_leaves_its_calls_in_flight_in_the_ledger() -> None:
    simulator = AnswersLate()
    async with Stage(simulator=simulator) as first:
        await first.commit(cattle("db", 3))
        await first.converged()
        await first.scale("db", 2)
        await first.until(lambda: simulator.requested)
    left = await first.replica.peek()
    assert left.closed
    assert left.ending == {DB: tuple(simulator.requested)}


class NoAnswer(Simulator):
    """A provider that creates nothing and answers no creation, for as long as it is silent."""

    silent = False

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        if self.silent:
            raise errors.OutcomeUnknown("connection reset")
        return await super().provision(spec=spec)


@in_virtual_time
async def test_one_creation_counts_once_however_often_the_leader_restarts() -> None:
    simulator = NoAnswer(Faults(), random=random.Random(3))
    async with Stage(simulator=simulator) as first:
        await first.commit(cattle("db", 3))
        await first.converged()
    simulator.silent = True
    simulator.kill(first.alive("db")["2"].id)
    for _restart in range(20):
        async with successor(first):
            await asyncio.sleep(10.0)
    simulator.silent = False
    async with successor(first) as last:
        await last.converged(within_s=300.0)


@in_virtual_time
async def test_a_creation_of_the_previous_leader_counts_although_it_is_not_requested_again() -> None:
    simulator = NoAnswer(Faults(tokens=False), random=random.Random(3))
    async with Stage(simulator=simulator) as first:
        await first.commit(cattle("db", 3))
        await first.converged()
        simulator.silent = True
        simulator.kill(first.alive("db")["2"].id)
        await first.until(lambda: first.messages(Kind.CREATE_UNKNOWN))
    assert list((await first.replica.peek()).intents[DB]) == ["2"]
    async with successor(first) as second:
        await second.until(lambda: "db" in second.controllers() and second.controller("db").view.observed_at)
        history = second.controller("db")._guard.history(asyncio.get_running_loop().time())
        assert sum(number for _age_s, number in history.created) == 4


@in_virtual_time
async def test_own_node_is_destroyed_last_although_it_is_not_listed_since_the_restart() -> None:
    simulator = provider()
    async with Stage(simulator=simulator) as first:
        await first.commit(pets("db", "a b c"))
        await first.converged()
    own = first.alive("db")["a"].id
    simulator.omitted = own
    async with successor(first, is_self=lambda member: member.logical_id == "a") as second:
        await second.until(lambda: own in second.controller("db").view.members if second.controllers() else False)
        await second.operator.destroy(group=DB, volumes=False, who="ann", why="a test")
        await second.until(lambda: len(second.messages(Kind.DESTROYING)) == 3)
        assert [each.instance for each in second.events if each.type is Kind.DESTROYING][-1] == own


class SlowStore(MemoryStore):
    """Each write is durable long before it is answered."""

    delay_s = 0.0

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        revision = await super().replace(name=name, body=body, expected=expected)
        await asyncio.sleep(self.delay_s)
        return revision


class Stamp:
    cluster = "c"

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = Epoch(epoch)


@in_virtual_time
async def test_a_census_is_cleared_although_its_last_write_was_cancelled() -> None:
    store = SlowStore()
    censuses = Censuses(store, Stamp())
    await censuses.open(DB)
    store.delay_s = 1.0
    writing = asyncio.ensure_future(censuses.write(DB, Census(members=(KnownMember(id=InstanceID("i-1")),))))
    await asyncio.sleep(0.5)
    writing.cancel()
    await asyncio.wait({writing})
    await censuses.clear(DB)
    assert not (await Censuses(store, Stamp()).open(DB)).members


@in_virtual_time
async def test_a_resumed_group_stays_resumed_when_the_leader_fails_over() -> None:
    simulator = provider()
    async with Stage(simulator=simulator) as first:
        await first.commit(pets("db", "a b c"))
        await first.converged()
        for machine in simulator.live():
            simulator.kill(machine.id)
        simulator.lost = True
        await first.until(lambda: any(block.rule == "guard" for block in first.controller("db").plan.blocked))
        await asyncio.sleep(60.0)
        simulator.lost = False
        await first.operator.resume(group=DB, despite_unhealthy=False, who="ann", why="the rack is gone")
    async with successor(first) as second:
        await second.converged()


class OmitsLeaving(EndsLate):
    """A provider whose listings omit what is being destroyed, although it still runs."""

    omits = False

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listed = await super().describe_instances(tags=tags, properties=properties)
        return [each for each in listed if not (self.omits and each.id in self.requested)]


@in_virtual_time
async def test_many_cattle_that_are_being_destroyed_hold_their_slots_after_a_failover() -> None:
    simulator = OmitsLeaving()
    async with Stage(simulator=simulator) as first:
        await first.commit(cattle("db", 510, in_flight=64))
        await first.converged()
        await asyncio.sleep(30)
        victim = first.alive("db")["7"].id
        simulator.make_unhealthy(victim)
        await first.until(lambda: victim in simulator.requested)
        await asyncio.sleep(10)
    created = simulator.calls["provision"]
    simulator.omits = True
    async with successor(first):
        await asyncio.sleep(1.5)
        assert victim in simulator.requested
        assert simulator.calls["provision"] == created


@pytest.mark.parametrize("inspects", [True, False])
@pytest.mark.parametrize("group", [pets("db", "a b c"), cattle("db", 6)], ids=["pets", "cattle"])
@in_virtual_time
async def test_a_census_from_before_an_older_release_led_does_not_block_the_group(
    group: dict[str, Any], inspects: bool
) -> None:
    """An older release replaces every member and writes no census."""
    async with Stage() as first:
        await first.commit(group)
        await first.converged()
    before = await first.store.read(name="census-db")
    async with successor(first) as older:
        group["properties"]["Instance"]["Properties"]["version"] = 1
        await older.commit(group)
        await older.converged()
    now = await first.store.read(name="census-db")
    await first.store.replace(name="census-db", body=before.body, expected=now.revision)
    async with successor(first, inspects=inspects) as last:
        await last.converged()
        await asyncio.sleep(60.0)
        first.simulator.kill(next(iter(last.alive("db").values())).id)
        await last.until(lambda: not last.is_converged())
        await last.converged()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pets("db", "a b c", quorum=True), pets("db", "d e f", quorum=True)),
        (pets("db", "a b c d e"), pets("db", "f g h")),
        (cattle("db", 10), cattle("db", 5, version=1)),
    ],
    ids=["quorum", "pets", "cattle"],
)
@in_virtual_time
async def test_leaders_that_restart_often_still_destroy_what_the_first_one_had_begun(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    simulator = Simulator(Faults(destroy=Spread(low=1.0, high=4.0)), random=random.Random(3))
    async with Stage(simulator=simulator) as first:
        await first.commit(before)
        await first.converged()
        await first.commit(after)
        await first.until(lambda: first.messages(Kind.DESTROYING))
    for _restart in range(40):
        async with successor(first) as stage:
            await asyncio.sleep(45.0)
            if stage.is_converged():
                return
    pytest.fail(stage.recent_events())


@pytest.mark.parametrize(("epoch", "kept"), [(2, True), (3, True), (4, False)])
@in_virtual_time
async def test_the_rest_of_a_call_counts_only_if_the_leader_before_has_written_it(epoch: int, kept: bool) -> None:
    """A leader of an older release in between may have requested the same destruction again."""

    store = MemoryStore()
    first = Censuses(store, Stamp(2))
    await first.open(DB)
    await first.write(DB, Census(ending=((InstanceID("i-1"), 7),)))
    assert bool((await Censuses(store, Stamp(epoch)).open(DB)).ending) is kept


class Written:
    """A store of censuses that remembers the newest one."""

    newest = Census()

    async def open(self, group: GroupID) -> Census:
        del group
        return self.newest

    async def write(self, group: GroupID, census: Census) -> None:
        del group
        self.newest = census


@in_virtual_time
async def test_what_remains_of_a_call_is_forgotten_before_the_member_is_destroyed_again() -> None:
    """Else the next leader would wait too short for the later call."""
    store, view = Written(), worlds.view(worlds.member("1"))
    keeper = CensusKeeper(store=store, provider="simulator", identity=str, view=view, guard=Guard())
    await keeper.open()
    view.inherit_destroys([InstanceID("i-1")], until=asyncio.get_running_loop().time() + 50.0)
    await keeper.keep(Plan())
    assert store.newest.ending == ((InstanceID("i-1"), 50),)
    view.observed_at = math.inf
    view.expire_inherited(at_once=False)
    await keeper.keep(Plan())
    assert not store.newest.ending


@pytest.mark.parametrize(
    ("provider", "account", "adopted"),
    [("simulator", "acc-1", True), ("simulator", "", True), ("simulator", "acc-2", False), ("other", "acc-1", False)],
)
@in_virtual_time
async def test_the_census_of_another_provider_or_account_is_not_adopted(
    provider: str, account: str, *, adopted: bool
) -> None:
    """Its members mean nothing there: they would be missing for ever, or be those of other instances."""
    store, view, guard = Written(), worlds.view(), Guard()
    known = KnownMember(id=InstanceID("i-1"), slot=Slot("1"))
    store.newest = Census(provider=provider, account=account, members=(known,), history=History(size=3, version="v"))
    keeper = CensusKeeper(store=store, provider="simulator", identity=lambda: "acc-1", view=view, guard=guard)
    await keeper.open()
    assert view.known.members == ((known,) if adopted else ())
    assert guard.history(0.0).size == (3 if adopted else 0)
