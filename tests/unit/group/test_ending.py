"""Destructions: drain first, stop immediately on a halt, and assume no outcome without a response."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import FlavorFaults, SimulatedFlavor
from infrakit.spi.event import Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Description, GroupID, HealthReport, InstanceID
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets


@in_virtual_time
async def test_a_hanging_drain_times_out_after_drain_timeout() -> None:
    async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
        await stage.commit(cattle("web", 2, updating={"DrainTimeout": "20s"}))
        await stage.converged()
        began = asyncio.get_running_loop().time()
        await stage.scale("web", 1)
        await stage.converged()
        assert asyncio.get_running_loop().time() - began >= 20
        assert "not done within 20 s" in stage.messages(Kind.DRAIN_FAILED)[0]


@in_virtual_time
async def test_a_drain_with_nothing_to_move_emits_no_event() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.converged()
        await asyncio.sleep(10)
        assert stage.messages(Kind.DESTROYING)
        assert stage.messages(Kind.DRAINING) == []


@in_virtual_time
async def test_scaling_up_again_during_a_drain_keeps_the_instance() -> None:
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
async def test_a_halt_during_a_drain_prevents_the_destruction() -> None:
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


class HangsAfterDestroying(MinimalProvider):
    """Its destroy calls take effect, but never return."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.destroy = self._destroy_without_response
        self._real_destroy = simulator.destroy

    async def _destroy_without_response(self, *, instance: InstanceID, context: DestroyContext) -> None:
        await self._real_destroy(instance=instance, context=context)
        await asyncio.get_running_loop().create_future()


@in_virtual_time
async def test_a_destruction_without_a_response_times_out() -> None:
    async with Stage(provider=HangsAfterDestroying) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.converged()
        await asyncio.sleep(130)
        assert len(stage.alive("web")) == 1


@in_virtual_time
async def test_a_destroyed_group_is_not_forgotten_while_a_call_has_not_returned() -> None:
    async with Stage(provider=HangsAfterDestroying) as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        await stage.operator.destroy(group=GroupID("web"), who="ann", why="retired")
        await asyncio.sleep(CALL_DEADLINE_S - 10)
        assert not stage.alive("web")
        assert stage.controllers()
        await stage.until(lambda: not stage.controllers(), within_s=30)


class HangingHealth(SimulatedFlavor):
    """Its health checks hang while `hangs` is set."""

    hangs = False

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        return await super().healthy_all(properties=properties, instances=instances)


@in_virtual_time
async def test_earlier_health_reports_do_not_count_after_a_destruction_without_a_response() -> None:
    async with Stage(faults=Faults(termination_lag=Spread(low=20.0)), flavor_class=HangingHealth) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        stage.fault(lost_rate=1.0)
        stage.simulator.watchers.append(lambda _what, _machine: setattr(stage.flavor, "hangs", True))
        for slot in "ab":
            await stage.operator.destroy_instance(instance=stage.alive("db")[slot].id, who="ann", why="both")
            await asyncio.sleep(1)
        await asyncio.sleep(9)
        assert sorted(stage.alive("db")) == ["b", "c"]
        assert "2 members would be left" not in " ".join(stage.messages(Kind.REFUSED))
        assert "the quorum needs 2" in " ".join(stage.messages(Kind.REFUSED))


@in_virtual_time
async def test_planned_creations_are_not_started_after_the_declaration_has_changed() -> None:
    faults = Faults(provision=Spread(low=1.0), describe=Spread(low=10.0))
    async with Stage(faults=faults) as stage:
        await stage.commit(cattle("web", 20, in_flight=1))
        await stage.until(lambda: stage.simulator.calls.get("provision") == 3)
        await stage.scale("web", 1)
        await asyncio.sleep(8)  # the listing that a new plan needs is in progress
        assert stage.simulator.calls["provision"] == 3


@in_virtual_time
async def test_a_replica_that_lost_the_epoch_during_prepare_creates_nothing() -> None:
    async with Stage(flavor=FlavorFaults(prepare_s=10.0)) as stage:
        await stage.commit(cattle("web", 5))
        await stage.until(lambda: len(stage.messages(Kind.CREATING)) == 5)
        assert stage.replica.term is not None
        stage.replica.term.ledger.resign("another holds epoch 2")
        await asyncio.sleep(15)
        assert "provision" not in stage.simulator.calls


@pytest.mark.parametrize("whole", [True, False])
@in_virtual_time
async def test_what_an_operator_destroys_is_destroyed_in_steps_that_a_halt_prevents(*, whole: bool) -> None:
    async with Stage(faults=Faults(destroy=Spread(low=5.0, high=5.0))) as stage:
        await stage.commit(cattle("web", 100, in_flight=100))
        await stage.converged()
        if whole:
            await stage.operator.destroy(group=GroupID("web"), who="ann", why="retired")
        else:
            for machine in stage.simulator.live()[:50]:
                await stage.operator.destroy_instance(instance=machine.id, who="ann", why="old", replace=False)
        await asyncio.sleep(3.0)
        await stage.operator.halt(who="ann", why="a slip")
        await asyncio.sleep(600)
        assert len(stage.simulator.live()) == (60 if whole else 80), "MaxUnhealthy is 40 of 100, 20 of 50"
        await stage.operator.unhalt(who="ann", why="no slip")
        await stage.until(lambda: len(stage.simulator.live()) == (0 if whole else 50))


class FirstListingIsEmpty(MinimalProvider):
    """A provider whose first listing for a new leader shows nothing."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._listings = 0
        self._simulator = simulator
        self.describe_instances = self._describe

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        self._listings += 1
        if self._listings == 1:
            return ()
        return await self._simulator.describe_instances(tags=tags, properties=properties)


class FirstListingIsEmptyButInspects(FirstListingIsEmpty):
    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.inspect = simulator.inspect


@pytest.mark.parametrize("provider", [FirstListingIsEmpty, FirstListingIsEmptyButInspects])
@pytest.mark.parametrize("group", [cattle("web", 3, in_flight=1), pets("web", "a b c", in_flight=1)])
@in_virtual_time
async def test_one_empty_listing_after_a_failover_does_not_prove_that_a_destroyed_group_has_no_instance(
    group: dict[str, Any], provider: type[FirstListingIsEmpty]
) -> None:
    async with Stage(faults=Faults(destroy=Spread(low=30.0, high=30.0))) as first:
        await first.commit(group)
        await first.converged()
        await first.operator.destroy(group=GroupID("web"), volumes=False, who="ann", why="retired")
        await first.until(lambda: first.messages(Kind.DESTROYING))
    second = Stage(store=first.store, simulator=first.simulator, provider=provider)
    async with second:
        await second.replica.active.wait()
        await second.until(lambda: not second.controllers())
        assert second.simulator.live() == []
