"""Destructions: drained first, stopped at once, and never believed without an answer."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import FlavorFaults, SimulatedFlavor
from infrakit.spi.event import Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Description, HealthReport, InstanceID
from tests.stage import Bare, Stage, cattle, in_virtual_time, pets


@in_virtual_time
async def test_a_drain_that_hangs_is_given_up_after_its_deadline() -> None:
    async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
        await stage.commit(cattle("web", 2, updating={"DrainTimeout": "20s"}))
        await stage.converged()
        began = asyncio.get_running_loop().time()
        await stage.scale("web", 1)
        await stage.converged()
        assert asyncio.get_running_loop().time() - began >= 20
        assert "not done within 20 s" in stage.messages(Kind.DRAIN_FAILED)[0]


@in_virtual_time
async def test_a_drain_that_has_nothing_to_move_is_not_told() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.converged()
        await asyncio.sleep(10)
        assert stage.messages(Kind.DESTROYING)
        assert stage.messages(Kind.DRAINING) == []


@in_virtual_time
async def test_a_change_of_mind_during_a_drain_saves_the_instance() -> None:
    async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
        await stage.commit(cattle("web", 2, updating={"DrainTimeout": "60s"}))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.until(lambda: stage.messages(Kind.DRAINING))
        await stage.scale("web", 2)
        await stage.converged()
        await asyncio.sleep(200)
        assert "destroy" not in stage.simulator.calls


@in_virtual_time
async def test_a_halt_between_drain_and_destruction_stops_it() -> None:
    async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
        await stage.commit(cattle("web", 2, updating={"DrainTimeout": "20s"}))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.until(lambda: stage.messages(Kind.DRAINING))
        await stage.operator.halt(who="bob", why="look first")
        await asyncio.sleep(300)
        assert "destroy" not in stage.simulator.calls
        assert len(stage.alive("web")) == 2
        await stage.operator.unhalt(who="ann", why="a test")
        await stage.converged()
        assert len(stage.alive("web")) == 1


class Slow(Bare):
    """Its destructions never answer, although they happen."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.destroy = self._destroy_silently
        self._end = simulator.destroy

    async def _destroy_silently(self, *, instance: InstanceID, context: DestroyContext) -> None:
        await self._end(instance=instance, context=context)
        await asyncio.get_running_loop().create_future()


@in_virtual_time
async def test_a_destruction_without_an_answer_ends_at_its_deadline() -> None:
    async with Stage(provider=Slow) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.converged()
        await asyncio.sleep(130)
        assert len(stage.alive("web")) == 1


class Silent(SimulatedFlavor):
    """Does not answer any more once told so."""

    silent = False

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        if self.silent:
            await asyncio.get_running_loop().create_future()
        return await super().healthy_all(properties=properties, instances=instances)


@in_virtual_time
async def test_no_older_verdict_counts_after_a_destruction_without_an_answer() -> None:
    async with Stage(faults=Faults(death_lag=Spread(low=20.0)), flavor_class=Silent) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        stage.fault(lost_rate=1.0)
        stage.simulator.watchers.append(lambda _what, _machine: setattr(stage.flavor, "silent", True))
        for slot in "ab":
            await stage.operator.destroy_instance(instance=stage.alive("db")[slot].id, who="ann", why="both")
            await asyncio.sleep(1)
        await asyncio.sleep(9)
        assert sorted(stage.alive("db")) == ["b", "c"]
        assert "2 members would be left" not in " ".join(stage.messages(Kind.REFUSED))
        assert "the quorum needs 2" in " ".join(stage.messages(Kind.REFUSED))


@in_virtual_time
async def test_what_was_planned_is_not_begun_after_the_declaration_has_changed() -> None:
    faults = Faults(provision=Spread(low=1.0), describe=Spread(low=10.0))
    async with Stage(faults=faults) as stage:
        await stage.commit(cattle("web", 20, in_flight=1))
        await stage.until(lambda: stage.simulator.calls.get("provision") == 3)
        await stage.scale("web", 1)
        await asyncio.sleep(8)  # the listing that a new plan needs is under way
        assert stage.simulator.calls["provision"] == 3


@in_virtual_time
async def test_nothing_is_created_by_one_who_lost_the_epoch_meanwhile() -> None:
    async with Stage(flavor=FlavorFaults(prepare_s=10.0)) as stage:
        await stage.commit(cattle("web", 5))
        await stage.until(lambda: len(stage.messages(Kind.CREATING)) == 5)
        assert stage.replica.term is not None
        stage.replica.term.ledger.resign("another holds epoch 2")
        await asyncio.sleep(15)
        assert "provision" not in stage.simulator.calls
