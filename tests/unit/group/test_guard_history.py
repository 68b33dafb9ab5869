"""What the guard remembers of a group ends when it should: after gaps in listings, lost replies, refused drains."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Description, HealthReport, InstanceID, InstanceSpec
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets
from tests.unit.group.test_incarnations import UsesIDsAgain

END_S = 120.0


async def _is_healed(stage: Stage, group: str) -> bool:
    """Make one member of a converged group unhealthy, and return whether it is replaced."""
    victim = next(iter(stage.alive(group).values()))
    stage.simulator.make_unhealthy(victim.id)
    await asyncio.sleep(600)
    return not victim.lives


@pytest.mark.parametrize("group", [pets("db", "a b c d e"), cattle("db", 10)], ids=["pets", "cattle"])
@in_virtual_time
async def test_a_group_is_healed_after_a_gap_in_the_listings(group: dict[str, Any]) -> None:
    async with Stage() as stage:
        await stage.commit(group)
        await stage.converged()
        stage.fault(blind=True)
        await asyncio.sleep(120)  # longer than a health report is valid
        stage.fault(blind=False)
        await stage.converged()
        assert await _is_healed(stage, "db")


class EndsLate(Simulator):
    """An instance ends two minutes after its destruction was requested, and the reply may be lost."""

    lost = False

    def __init__(self) -> None:
        super().__init__(Faults(), random=random.Random(3))
        self.requested: set[InstanceID] = set()
        self.most = 0

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        del context
        await asyncio.sleep(0.5)
        if instance not in self.requested:
            self.requested.add(instance)
            asyncio.get_running_loop().call_later(END_S, self._end, instance)
        self.most = max(self.most, len(self.requested))
        if self.lost:
            raise errors.OutcomeUnknown("connection reset")

    def _end(self, instance: InstanceID) -> None:
        self.kill(instance)
        self.requested.discard(instance)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "at_once"),
    [
        (cattle("db", 100, in_flight=100), cattle("db", 20, in_flight=100), 8),
        (pets("db", "a b c d e f g", quorum=True), pets("db", "a b c", quorum=True), 1),
    ],
    ids=["cattle", "quorum"],
)
@in_virtual_time
async def test_a_lost_reply_does_not_free_the_pace(
    before: dict[str, Any], after: dict[str, Any], at_once: int, *, lost: bool
) -> None:
    provider = EndsLate()
    provider.lost = lost
    async with Stage(simulator=provider) as stage:
        await stage.commit(before)
        await stage.converged()
        await stage.commit(after)
        await asyncio.sleep(END_S - 20)
        assert 1 <= provider.most <= at_once


class Deaf(Simulator):
    """Acknowledges destructions without effect."""

    deaf = False

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        if not self.deaf:
            await super().destroy(instance=instance, context=context)


@in_virtual_time
async def test_a_destruction_without_effect_that_is_no_longer_wanted_is_forgotten() -> None:
    provider = Deaf(Faults(), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        provider.deaf = True
        await stage.commit(pets("db", "a b c", quorum=True, version=1))
        await stage.until(lambda: stage.messages(Kind.DESTROYING))
        await stage.commit(pets("db", "a b c", quorum=True))
        provider.deaf = False
        await asyncio.sleep(300)
        assert stage.is_converged()
        assert await _is_healed(stage, "db")


class SlowDrain(SimulatedFlavor):
    """Drains take half a minute; an instance is found by its logical ID."""

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        own = next((m.id for m in self._simulator.live() if f"node-{m.logical_id}" == instance.id), InstanceID(""))
        return await super().healthy(properties=properties, instance=msgspec.structs.replace(instance, id=own))

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        del properties, instance
        await asyncio.sleep(30)


@in_virtual_time
async def test_a_drain_that_outlives_its_instance_does_not_end_the_next_incarnation() -> None:
    async with Stage(provider=UsesIDsAgain, flavor_class=SlowDrain) as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.converged()
        stage.simulator.make_unhealthy(stage.alive("db")["a"].id)
        await stage.until(lambda: stage.messages(Kind.DRAINING))
        stage.kill("db", "a")
        await stage.until(lambda: "a" in stage.alive("db"))
        new = stage.alive("db")["a"]
        await asyncio.sleep(120)
        assert new.lives


class Bare(Simulator):
    """Creates instances without their volumes."""

    bare = False

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        return await super().provision(spec=msgspec.structs.replace(spec, attachments=()) if self.bare else spec)


@in_virtual_time
async def test_replacing_stops_when_replacements_lack_their_volumes() -> None:
    provider = Bare(Faults(), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c d e", volumes=True))
        await stage.converged()
        before = {m.id for m in provider.live()}
        provider.bare = True
        for victim in before:
            provider.make_unhealthy(victim)
            await asyncio.sleep(120)
        assert len(before & {m.id for m in provider.live()}) == 3


@in_virtual_time
async def test_creations_that_the_provider_refuses_do_not_count() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        await asyncio.sleep(3700)
        stage.fault(capacity=0)
        stage.kill("web", "1")
        await asyncio.sleep(1200)
        stage.fault(capacity=None)
        await stage.until(lambda: stage.alive("web"), within_s=120)


class SlowChecks(SimulatedFlavor):
    """Health checks take five seconds."""

    async def healthy_all(self, **about: Any) -> Any:
        await asyncio.sleep(5.0)
        return await super().healthy_all(**about)


@in_virtual_time
async def test_a_new_leader_reaches_a_much_smaller_size_step_by_step() -> None:
    store, simulator = MemoryStore(), Simulator(Faults(destroy=Spread(low=5.0, high=5.0)), random=random.Random(3))
    async with Stage(simulator=simulator, store=store, flavor_class=SlowChecks) as stage:
        await stage.commit(cattle("web", 300, in_flight=300))
        await stage.converged()
        await stage.commit(cattle("web", 20, in_flight=300))
        await asyncio.sleep(4)
    left = len(simulator.live())
    async with Stage(simulator=simulator, store=store, flavor_class=SlowChecks):
        await asyncio.sleep(10)
        assert left > len(simulator.live()) >= left - 3 * 8


class OtherRegion(Simulator):
    """From a moment on, requests go to another region: older instances are unknown there. Inspections are throttled."""

    moved_at = float("inf")
    inspections = 0

    def _is_elsewhere(self, instance: InstanceID) -> bool:
        return instance in self.machines and self.machines[instance].created_at <= self.moved_at

    async def describe_instances(self, **about: Any) -> Any:
        listed = await super().describe_instances(**about)
        moved = asyncio.get_running_loop().time() >= self.moved_at
        return [each for each in listed if not moved or not self._is_elsewhere(each.id)]

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        now = asyncio.get_running_loop().time()
        if now < self.moved_at:
            return await super().inspect(instance=instance)
        self.inspections += 1
        if self.inspections > 3 and now < self.moved_at + 5:
            raise errors.Throttled("too many requests", after_s=1.0)
        return None if self._is_elsewhere(instance) else await super().inspect(instance=instance)


@in_virtual_time
async def test_instances_of_a_wrong_region_prove_nothing_about_those_that_vanished() -> None:
    provider = OtherRegion(Faults(exclusive=False), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c d e f g h i j", volumes=True))
        await stage.converged()
        provider.moved_at = asyncio.get_running_loop().time()
        await asyncio.sleep(600)
        assert len(provider.live()) <= 10 + 4  # those that were recreated before there were too many
