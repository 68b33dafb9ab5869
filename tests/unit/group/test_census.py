"""What a new leader knows of a group: its first listings are compared with the census of the previous leader."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from infrakit.gate.census import Census, unpack
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.manager.lead.census import NAME_MAX, PREFIX, name
from infrakit.simulation.parts import FlavorFaults
from infrakit.spi import codec, errors, values
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, GroupID, InstanceID, LogicalID
from infrakit.stores.memory import MemoryStore
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

LONG_S = 300.0
DB = GroupID("db")


class WrongRegion(Simulator):
    """A provider that can be listed with success and shows nothing, and knows no ID, as in a wrong region."""

    lost = False
    forbidden = False
    omitted: str = ""

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listed = await super().describe_instances(tags=tags, properties=properties)
        return [] if self.lost else [each for each in listed if each.id != self.omitted]

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        if self.forbidden:
            raise errors.Refused("these credentials may not inspect")
        return None if self.lost else await super().inspect(instance=instance)


def provider(**faults: Any) -> WrongRegion:
    return WrongRegion(Faults(**faults), random=random.Random(3))


def successor(stage: Stage, *, inspects: bool = True, **more: Any) -> Stage:
    """The next leader: a new process with the same store and provider."""
    return Stage(store=stage.store, simulator=stage.simulator, provider=None if inspects else MinimalProvider, **more)


async def census(stage: Stage, group: GroupID = DB) -> Census:
    return codec.decode((await stage.store.read(name=name(group))).body, Census)


GROUPS = [pets("db", "a b c", volumes=True), pets("db", "a b c", quorum=True), cattle("db", 6), cattle("db", 600)]


@pytest.mark.parametrize("inspects", [True, False])
@pytest.mark.parametrize("group", GROUPS, ids=["pets", "quorum", "cattle", "many cattle"])
@in_virtual_time
async def test_a_new_leader_creates_nothing_while_all_that_is_known_is_not_listed(
    group: dict[str, Any], inspects: bool
) -> None:
    simulator = provider(exclusive=False)
    async with Stage(simulator=simulator, provider=None if inspects else MinimalProvider) as first:
        await first.commit(group)
        await first.converged()
        await first.until(lambda: not first.controller("db").view.pending)
    before = {each.id for each in simulator.live()}
    simulator.lost = True
    async with successor(first, inspects=inspects) as second:
        await asyncio.sleep(LONG_S)
        assert {each.id for each in simulator.live()} == before
        assert any(block.rule in ("guard", "not-listed") for block in second.controller("db").plan.blocked)
        assert not second.is_converged()
        simulator.lost = False
        await second.converged()
        assert {each.id for each in simulator.live()} == before
        victim = next(iter(second.alive("db").values()))
        simulator.kill(victim.id)  # what came back no longer counts as vanished
        await second.until(lambda: not second.is_converged())
        await second.converged()


@in_virtual_time
async def test_a_machine_that_an_operator_has_bootstrapped_proves_the_provider() -> None:
    """A cluster is recovered from its volumes: the first machine is not of the leader that saw the others vanish."""
    simulator = provider(exclusive=False, describe=Spread(low=0.1, high=0.1))
    async with Stage(simulator=simulator) as first:
        await first.commit(pets("db", "a b c", quorum=True))
        await first.converged()
    simulator.lost = True
    async with successor(first) as second:
        await second.until(lambda: "db" in second.controllers() and second.controller("db").plan.blocked)
        await asyncio.sleep(LONG_S)
        assert (await census(second)).history.vanished
    for machine in list(simulator.live()):
        simulator.kill(machine.id)
    await asyncio.sleep(LONG_S)  # until the provider has forgotten them
    simulator.lost = False
    simulator.adopt(tags={values.TAG_GROUP: "db", values.TAG_HASH: values.BOOTSTRAP}, logical_id=LogicalID("a"))
    async with successor(first) as third:
        await third.converged()
        assert not third.messages(Kind.REFUSED)


@in_virtual_time
async def test_recovered_machines_that_are_adopted_late_prove_the_provider() -> None:
    """They have the declared version, and belong to another cluster until the recovery is adopted."""
    simulator = provider(exclusive=False)
    async with Stage(simulator=simulator) as first:
        await first.commit(pets("db", "a b c", quorum=True))
        await first.converged()
        version = first.alive("db")["a"].tags[values.TAG_HASH]
    for machine in list(simulator.live()):
        simulator.kill(machine.id)
    await asyncio.sleep(LONG_S)  # until the provider has forgotten them
    for each in "ab":
        tags = {values.TAG_GROUP: "db", values.TAG_HASH: version, values.TAG_TOKEN: f"bootstrap-1/db/{each}/1"}
        simulator.adopt(tags=tags, logical_id=LogicalID(each))
    async with successor(first) as second:
        await second.until(lambda: len(second.messages(Kind.TERMINATED)) == 3)
        await second.operator.adopt(cluster="bootstrap-1", who="ann", why="recovered")
        await second.converged()
        assert len(simulator.live()) == 3


@pytest.mark.parametrize("group", GROUPS, ids=["pets", "quorum", "cattle", "many cattle"])
@in_virtual_time
async def test_one_empty_answer_after_a_restart_creates_nothing(group: dict[str, Any]) -> None:
    simulator = provider()
    async with Stage(simulator=simulator) as first:
        await first.commit(group)
        await first.converged()
        await first.until(lambda: not first.controller("db").view.pending)
    created = simulator.calls["provision"]
    simulator.lost = True
    async with successor(first) as second:
        await second.until(lambda: "db" in second.controllers() and second.controller("db").view.observed_at)
        simulator.lost = False
        await second.converged()
        assert simulator.calls["provision"] == created


@in_virtual_time
async def test_a_missing_pet_is_still_held_after_a_restart() -> None:
    simulator = provider()
    async with Stage(simulator=simulator) as first:
        await first.commit(pets("db", "a b c"))
        await first.converged()
        simulator.forbidden = True
        victim = first.alive("db")["a"].id
        simulator.omitted = victim
        await first.until(lambda: first.controller("db").view.members[victim].missing_since is not None)
    created = simulator.calls["provision"]
    for _restart in range(3):
        async with successor(first) as stage:
            await asyncio.sleep(LONG_S)
            assert simulator.calls["provision"] == created
            blocked = stage.controller("db").plan.blocked
            assert [block.rule for block in blocked if block.subject == victim] == ["one-per-logical-id"]
    async with successor(first) as last:
        simulator.forbidden = False
        simulator.kill(victim)
        await last.converged()
        assert last.alive("db")["a"].id != victim


@pytest.mark.parametrize("group", [pets("db", "a b c d e"), cattle("db", 5)], ids=["pets", "cattle"])
@pytest.mark.parametrize("inspects", [True, False])
@in_virtual_time
async def test_a_member_that_died_with_the_leader_is_replaced(group: dict[str, Any], inspects: bool) -> None:
    async with Stage() as first:
        await first.commit(group)
        await first.converged()
    first.simulator.kill(next(iter(first.alive("db").values())).id)
    async with successor(first, inspects=inspects) as second:
        await second.until(second.is_converged, within_s=60.0)
        assert len(second.alive("db")) == 5


@in_virtual_time
async def test_a_leader_that_restarts_often_creates_no_more_than_one_that_stays() -> None:
    """Each life would otherwise begin with a new limit of creations, and without what was lost."""
    async with Stage(flavor=FlavorFaults()) as first:
        await first.commit(cattle("db", 10))
        await first.converged()
    simulator, stage = first.simulator, first
    originals = {each.id for each in simulator.live()}
    stage.fault(never_healthy_rate=1.0)
    for victim in sorted(originals):
        async with successor(first) as stage:
            simulator.make_unhealthy(victim)
            await asyncio.sleep(60.0)
    for _restart in range(10):
        async with successor(first) as stage:
            await asyncio.sleep(60.0)
    assert len({each.id for each in simulator.live()} & originals) >= 6
    assert simulator.calls["provision"] <= 10 + 2 * 10


@in_virtual_time
async def test_boot_grace_does_not_start_again_for_a_proven_pet() -> None:
    async with Stage() as first:
        await first.commit(pets("db", "a b c", healing={"BootGrace": "1h", "UnhealthyAfter": "10s"}))
        await first.converged()
        await asyncio.sleep(120)
    victim = first.alive("db")["a"].id
    first.simulator.make_unhealthy(victim)
    async with successor(first) as second:
        await second.until(lambda: victim not in {m.id for m in first.simulator.live()}, within_s=120.0)


@pytest.mark.parametrize("size", [10, 520])
@in_virtual_time
async def test_the_census_is_written_before_an_intent_is_cleared(size: int) -> None:
    """At any time, each live instance is in the ledger or in the census."""
    async with Stage(faults=Faults(provision=Spread(low=0.1, high=2.0))) as stage:
        await stage.commit(cattle("db", size, in_flight=64))
        while not stage.is_converged():
            await asyncio.sleep(0.05)
            recorded = await stage.replica.peek()
            known = await census(stage)
            ids = {member.id for member in known.members}
            tokens = {intent.token for intent in recorded.intents.get(DB, {}).values()}
            unknown = [m for m in stage.simulator.live() if m.id not in ids and m.tags["infrakit.token"] not in tokens]
            assert {m.tags["infrakit.slot"] for m in unknown} <= set(unpack(known.slots))
        await stage.until(lambda: not stage.controller("db").view.pending, within_s=5.0)  # all are in the census by now
        known = await census(stage)
        assert len(known.members) == (10 if size == 10 else 0)
        assert known.slots == (() if size == 10 else ("1-520",))


@in_virtual_time
async def test_an_idle_group_does_not_write() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("db", 10))
        await stage.converged()
        await asyncio.sleep(120)
        before = await stage.store.newest(name=name(DB))
        await asyncio.sleep(500)
        assert await stage.store.newest(name=name(DB)) == before
        await asyncio.sleep(1300.0)
        assert 1 <= await stage.store.newest(name=name(DB)) - before <= 3  # while creations of the last hour count


@in_virtual_time
async def test_a_group_that_was_freed_and_is_declared_again_begins_anew() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("db", 6))
        await stage.converged()
        await stage.operator.free(group=DB, who="ann", why="moved")
        await stage.until(lambda: not stage.controllers())
        assert not (await census(stage)).members
        for machine in stage.simulator.live():
            stage.simulator.kill(machine.id)
        await stage.commit(cattle("db", 6))
        await stage.converged()
        assert len(stage.alive("db")) == 6


@in_virtual_time
async def test_a_leader_whose_census_was_stamped_by_a_newer_one_cannot_write_it() -> None:
    async with Stage() as first:
        await first.commit(pets("db", "a b c"))
        await first.converged()
        async with successor(first) as second:
            await second.until(second.is_converged)
            assert (await census(second)).epoch >= 2
            assert first.messages(Kind.STOPPED)


@pytest.mark.parametrize("body", [b"{", b'{"Slots": ["x"], "Provider": "simulator", "Cluster": "%s"}'])
@in_virtual_time
async def test_a_damaged_census_stops_the_group_and_names_it(body: bytes) -> None:
    store = MemoryStore()
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        cluster = (await stage.replica.peek()).cluster
        text = body % cluster.encode() if b"%s" in body else body
        await store.replace(name=name(DB), body=text, expected=0)
        await stage.commit(cattle("web", 1), cattle("db", 1))
        await stage.until(lambda: any("census of db" in each for each in stage.messages(Kind.ERROR)))
        assert not stage.alive("db")


def test_names_of_documents_are_valid_and_distinct() -> None:
    groups = ["db", "a.b", "a-b", "a_b", "x" * 17, "x" * 18, "x" * 63]
    names = {name(GroupID(each)) for each in groups}
    assert len(names) == len(groups)
    assert all(each.replace("-", "").isalnum() and len(each) <= len(PREFIX) + NAME_MAX for each in names)
    assert name(DB) == "census-db"
