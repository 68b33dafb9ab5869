"""What a predecessor may still have under way is not decided by what happens to its successor's own calls."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.values import Allocation, GroupID, Index, InstanceID, InstanceSpec
from tests.stage import Bare, Stage, cattle, in_virtual_time, pets


class Asked(Bare):
    """A provider that carries out what it was asked for, whoever waits for it, and notes the tokens."""

    def __init__(self, simulator: Simulator, tokens: set[str]) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self._tokens = tokens
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        self._tokens.add((spec.tags or {})[values.TAG_TOKEN])
        return await asyncio.shield(asyncio.ensure_future(self._simulator.provision(spec=spec)))


class Stumbling(SimulatedFlavor):
    """Cannot prepare anything at first."""

    failures = 2

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        self.failures -= 1
        if self.failures >= 0:
            raise errors.PluginError("no join token")
        return await super().prepare(properties=properties, spec=spec, allocation=allocation, index=index)


@in_virtual_time
async def test_a_flavor_that_fails_says_nothing_of_the_call_of_a_predecessor() -> None:
    """Found by the simulation: the call was carried out after the successor had given its intent up."""
    asked: set[str] = set()
    faults = Faults(provision=Spread(low=60.0))
    async with Stage(faults=faults, provider=lambda s: Asked(s, asked)) as first:
        await first.commit(pets("db", "a"))
        await first.until(lambda: asked)
    first.fault(provision=Spread())
    successor = Stage(
        store=first.store,
        simulator=first.simulator,
        provider=lambda s: Asked(s, asked),
        flavor_class=Stumbling,
    )
    async with successor:
        await successor.converged()
        assert len(asked) == 1
        assert len(successor.simulator.live()) == 1


async def ended_while_destroying(size: int, order: Callable[[Stage], Awaitable[object]]) -> Stage:
    """A replica that had `size` workers, and whose term has ended before any destroy call of the order was answered."""
    async with Stage() as stage:
        await stage.commit(cattle("web", size))
        await stage.converged()
        stage.fault(destroy=Spread(low=300.0))
        await order(stage)
        await stage.until(lambda: stage.messages(Kind.DESTROYING))
    stage.fault(destroy=Spread())
    return stage


@in_virtual_time
async def test_the_destruction_of_a_whole_group_is_retried_at_once() -> None:
    """Nothing is decided by who asks last, and an operator who interrupted `infrakit down` continues it."""
    first = await ended_while_destroying(
        2, lambda stage: stage.operator.destroy(group=GroupID("web"), who="ann", why="down")
    )
    assert len(first.simulator.live()) == 2
    async with Stage(store=first.store, simulator=first.simulator) as successor:
        await successor.until(lambda: not successor.simulator.live(), within_s=10.0)


@in_virtual_time
async def test_one_destruction_of_a_predecessor_is_waited_for() -> None:
    """It may still be carried out: until then, its instance counts as leaving."""
    first = await ended_while_destroying(3, lambda stage: stage.scale("web", 2))
    async with Stage(store=first.store, simulator=first.simulator) as successor:
        await successor.until(successor.controllers)
        await asyncio.sleep(10.0)
        assert len(successor.simulator.live()) == 3
        await successor.converged()
        assert len(successor.simulator.live()) == 2
