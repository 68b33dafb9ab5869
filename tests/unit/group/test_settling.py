"""Intents remain while their call may take effect, and while listings may still omit their instance."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

LAG_S = 30.0


class TakesEffectLate(MinimalProvider):
    """Resets the connection of its first creation at once, and carries the call out shortly before its deadline."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._create = simulator.provision
        self.requested = 0
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        self.requested += 1
        if self.requested > 1:
            return await self._create(spec=spec)
        self.late = asyncio.ensure_future(self._create_late(spec))
        raise errors.OutcomeUnknown("connection reset")

    async def _create_late(self, spec: InstanceSpec) -> None:
        await asyncio.sleep(CALL_DEADLINE_S - 1.0)
        await self._create(spec=spec)


@pytest.mark.parametrize("group", [pets("g", "a"), cattle("g", 1)], ids=["pets", "cattle"])
@in_virtual_time
async def test_a_call_without_an_answer_may_take_effect_until_its_deadline(group: dict[str, object]) -> None:
    faults = Faults(tokens=False, exclusive=False, lag=Spread(low=5.0), lag_max=LAG_S)
    async with Stage(faults=faults, provider=TakesEffectLate) as stage:
        await stage.commit(group)
        await asyncio.sleep(CALL_DEADLINE_S)
        await stage.converged(within_s=LAG_S)
        assert len(stage.simulator.machines) == 1
        assert len(stage.messages(Kind.CREATING)) == 1


class NeverTakesEffect(TakesEffectLate):
    """Resets the connection of its first creation, which has no effect."""

    async def _create_late(self, spec: InstanceSpec) -> None:
        del spec


@in_virtual_time
async def test_a_call_without_an_answer_or_effect_is_given_up_after_its_deadline_and_the_lag() -> None:
    async with Stage(faults=Faults(tokens=False, lag_max=LAG_S), provider=NeverTakesEffect) as stage:
        await stage.commit(pets("g", "a"))
        await asyncio.sleep(CALL_DEADLINE_S + LAG_S - 2.0)
        assert not stage.simulator.machines
        await stage.converged(within_s=10.0)
        assert len(stage.simulator.machines) == 1


class HidesAgain(MinimalProvider):
    """A provider whose listing shows an instance, and omits it again within the promised lag."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._list = simulator.describe_instances
        self.hidden_until = 0.0
        self.describe_instances = self._describe

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listing = await self._list(tags=tags, properties=properties)
        return [] if asyncio.get_running_loop().time() < self.hidden_until else listing


@pytest.mark.parametrize("group", [pets("g", "a"), cattle("g", 1)], ids=["pets", "cattle"])
@in_virtual_time
async def test_an_instance_that_listings_omit_again_within_the_lag_is_known_to_the_next_leader(
    group: dict[str, object],
) -> None:
    faults = Faults(tokens=False, exclusive=False, lag_max=LAG_S)
    async with Stage(faults=faults, provider=HidesAgain) as first:
        await first.commit(group)
        await first.converged(within_s=5.0)  # convergence does not wait for the lag

    def hides(simulator: Simulator) -> HidesAgain:
        provider = HidesAgain(simulator)
        provider.hidden_until = asyncio.get_running_loop().time() + LAG_S - 5.0
        return provider

    async with Stage(store=first.store, simulator=first.simulator, provider=hides) as new_leader:
        await new_leader.converged()
        assert len(new_leader.simulator.machines) == 1
        assert not new_leader.messages(Kind.CREATING)


@in_virtual_time
async def test_the_intent_of_a_listed_instance_is_settled_after_the_lag_without_an_event() -> None:
    async with Stage(faults=Faults(lag_max=LAG_S)) as stage:
        await stage.commit(cattle("g", 3))
        await stage.converged(within_s=5.0)
        term = stage.replica.term
        assert term is not None
        assert len(term.ledger.intents(GroupID("g"))) == 3
        assert (await stage.status("g")).converged
        await asyncio.sleep(LAG_S + 2.0)
        assert not term.ledger.intents(GroupID("g"))
        assert not stage.controller("g").view.pending
        assert len(stage.messages(Kind.CONVERGED)) == 1
        assert not stage.messages(Kind.DIVERGED)


@pytest.mark.parametrize("requested", [True, False])
@in_virtual_time
async def test_an_instance_that_terminates_within_the_lag_is_replaced_at_once(requested: bool) -> None:
    async with Stage(faults=Faults(lag_max=LAG_S), poll_s=0.5) as stage:
        await stage.commit(pets("g", "a b"))
        await stage.converged(within_s=5.0)
        first = stage.alive("g")["a"].id
        if requested:
            await stage.operator.destroy_instance(instance=first, replace=True, who="ann", why="a test")
        else:
            stage.kill("g", "a")
        await stage.until(lambda: stage.alive("g").get("a", stage.alive("g")["b"]).id not in {first, "sim-2"}, 10.0)
        await stage.converged(within_s=10.0)
        assert stage.controller("g").view.backoffs.keys() == (set() if requested else {"a"})
        assert stage.simulator.calls["provision"] == 3


@in_virtual_time
async def test_a_group_that_is_destroyed_within_the_lag_leaves_no_intent() -> None:
    async with Stage(faults=Faults(lag_max=LAG_S)) as stage:
        await stage.commit(cattle("g", 3))
        await stage.converged(within_s=5.0)
        await stage.operator.destroy(group=GroupID("g"), who="ann", why="down")
        await stage.until(lambda: not stage.controllers(), within_s=LAG_S + 10.0)
        assert stage.replica.term is not None
        assert not stage.replica.term.ledger.intents(GroupID("g"))


@in_virtual_time
async def test_what_terminates_within_the_lag_is_replaced_in_the_cycle_that_settles_its_intent() -> None:
    async with Stage(faults=Faults(lag_max=LAG_S, exclusive=False)) as stage:
        await stage.commit(cattle("g", 3))
        await stage.converged()
        stage.kill("g", "1")
        await stage.until(lambda: len(stage.messages(Kind.CREATED)) == 4)
        terminated = next(each for each in stage.events if each.type is Kind.TERMINATED)
        replaced = [each for each in stage.events if each.type is Kind.CREATING][-1]
        assert replaced.timestamp == terminated.timestamp  # nothing was awaited in between
