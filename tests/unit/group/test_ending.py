"""Destructions: drained first, stopped at once, and never believed without an answer."""

import asyncio

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import FlavorFaults
from infrakit.spi.event import Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import InstanceID
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
        assert "not done within 20 s" in stage.told(Kind.DRAIN_FAILED)[0]


@in_virtual_time
async def test_a_change_of_mind_during_a_drain_saves_the_instance() -> None:
    async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
        await stage.commit(cattle("web", 2, updating={"DrainTimeout": "60s"}))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.until(lambda: stage.told(Kind.DRAINING))
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
        await stage.until(lambda: stage.told(Kind.DRAINING))
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


@in_virtual_time
async def test_no_older_verdict_counts_after_a_destruction_without_an_answer() -> None:
    async with Stage(faults=Faults(death_lag=Spread(low=20.0), lost_rate=0.0), provider=Bare) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        stage.fault(lost_rate=1.0)
        nothing_new = FlavorFaults(unknown_rate=1.0)  # from the death on
        stage.simulator.watchers.append(lambda _what, _machine: setattr(stage.flavor, "faults", nothing_new))
        await stage.commit(pets("db", "a b c", quorum=True, version=1))
        await stage.until(lambda: stage.told(Kind.DESTROY_FAILED))
        await asyncio.sleep(15)
        assert len(stage.alive("db")) == 2
