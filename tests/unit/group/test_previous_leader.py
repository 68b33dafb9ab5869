"""The outcome of a call of the previous leader is not inferred from the outcomes of the new leader's calls."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import msgspec

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation import loop
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Allocation, GroupID, Index, InstanceID, InstanceSpec
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets


class CompletesEveryCreation(MinimalProvider):
    """A provider that completes every creation even if the caller is cancelled, and records the tokens."""

    def __init__(self, simulator: Simulator, tokens: set[str]) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self._tokens = tokens
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        self._tokens.add((spec.tags or {})[values.TAG_TOKEN])
        return await asyncio.shield(asyncio.ensure_future(self._simulator.provision(spec=spec)))


class FailsToPrepareAtFirst(SimulatedFlavor):
    """Its first two calls of prepare fail."""

    failures = 2

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        self.failures -= 1
        if self.failures >= 0:
            raise errors.PluginError("no join token")
        return await super().prepare(properties=properties, spec=spec, allocation=allocation, index=index)


@in_virtual_time
async def test_a_failing_prepare_does_not_resolve_a_creation_of_the_previous_leader() -> None:
    """Found by the simulation: the call took effect after the new leader had given up its intent."""
    tokens: set[str] = set()
    faults = Faults(provision=Spread(low=60.0))
    async with Stage(faults=faults, provider=lambda s: CompletesEveryCreation(s, tokens)) as first:
        await first.commit(pets("db", "a"))
        await first.until(lambda: tokens)
    first.fault(provision=Spread())
    new_leader = Stage(
        store=first.store,
        simulator=first.simulator,
        provider=lambda s: CompletesEveryCreation(s, tokens),
        flavor_class=FailsToPrepareAtFirst,
    )
    async with new_leader:
        await new_leader.converged()
        assert len(tokens) == 1
        assert len(new_leader.simulator.live()) == 1


async def stopped_while_destroying(size: int, command: Callable[[Stage], Awaitable[object]]) -> Stage:
    """A stopped replica with `size` workers; its term ended before any destroy call of the command was answered."""
    async with Stage() as stage:
        await stage.commit(cattle("web", size))
        await stage.converged()
        stage.fault(destroy=Spread(low=300.0))
        await command(stage)
        await stage.until(lambda: stage.messages(Kind.DESTROYING))
    stage.fault(destroy=Spread())
    return stage


@in_virtual_time
async def test_the_destruction_of_a_whole_group_is_retried_at_once_by_a_new_leader() -> None:
    """Repeating the calls does no harm, and an operator who interrupted `infrakit down` continues it."""
    first = await stopped_while_destroying(
        2, lambda stage: stage.operator.destroy(group=GroupID("web"), who="ann", why="down")
    )
    assert len(first.simulator.live()) == 2
    async with Stage(store=first.store, simulator=first.simulator) as new_leader:
        await new_leader.until(lambda: not new_leader.simulator.live(), within_s=10.0)


@in_virtual_time
async def test_a_single_destruction_of_the_previous_leader_is_waited_for() -> None:
    """It may still take effect: until then, its instance counts as leaving."""
    first = await stopped_while_destroying(3, lambda stage: stage.scale("web", 2))
    async with Stage(store=first.store, simulator=first.simulator) as new_leader:
        await new_leader.until(new_leader.controllers)
        await asyncio.sleep(10.0)
        assert len(new_leader.simulator.live()) == 3
        await new_leader.converged()
        assert len(new_leader.simulator.live()) == 2


class FastClock(loop.VirtualClock):
    """A wall clock that is an hour ahead."""

    def now(self) -> float:
        return super().now() + 3600


@in_virtual_time
async def test_a_new_leader_whose_clock_is_ahead_destroys_no_booting_instance() -> None:
    grace = {"BootGrace": "120s", "UnhealthyAfter": "10s", "MaxUnhealthy": "100%"}
    async with Stage(faults=Faults(boot=Spread(low=100.0))) as first:
        await first.commit(cattle("web", 2, healing=grace))
        await first.until(lambda: len(first.alive("web")) == 2)
        await asyncio.sleep(30)
    before = set(first.simulator.machines)
    async with Stage(store=first.store, simulator=first.simulator, clock=FastClock()) as new_leader:
        await new_leader.converged()
        assert set(new_leader.simulator.machines) == before


@in_virtual_time
async def test_a_boot_that_is_longer_than_its_grace_is_not_interrupted() -> None:
    grace = {"BootGrace": "60s", "UnhealthyAfter": "10s", "MaxUnhealthy": "100%"}
    async with Stage(faults=Faults(boot=Spread(low=65.0))) as stage:
        await stage.commit(cattle("web", 2, healing=grace))
        await stage.converged()
        assert "destroy" not in stage.simulator.calls


class DestroysWithoutAnAnswer(MinimalProvider):
    """The outcome of every destruction is unknown, and nothing shows an effect."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.destroy = self._no_answer

    async def _no_answer(self, *, instance: InstanceID, context: DestroyContext) -> None:
        raise errors.OutcomeUnknown("gateway timeout")


@in_virtual_time
async def test_a_destruction_of_unknown_outcome_is_known_to_the_next_leader_while_its_retry_waits() -> None:
    """Found by the simulation: the next leader counted the instance as a voter, and destroyed a second one."""
    async with Stage(provider=DestroysWithoutAnAnswer) as first:
        await first.commit(pets("db", "a b c", quorum=True))
        await first.converged()
        sick = first.alive("db")["a"].id
        first.simulator.make_unhealthy(sick)
        await first.until(lambda: first.messages(Kind.DESTROY_FAILED))
        first.simulator.machines[sick].unhealthy_at = math.inf  # it recovers, so nothing requests its end again
        await asyncio.sleep(20.0)
    new_leader = Stage(store=first.store, simulator=first.simulator, provider=DestroysWithoutAnAnswer)
    async with new_leader:
        await new_leader.until(lambda: new_leader.controllers() and new_leader.controller("db").view.members)
        assert new_leader.controller("db").view.members[sick].leaving
