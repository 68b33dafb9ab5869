"""Creations: as many as declared, each once, also when responses of the provider are lost, late or wrong."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from infrakit.group.actions import Priority, Provision
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import FlavorFaults, SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.values import Allocation, GroupID, Index, InstanceID, InstanceSpec, Slot
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets


@in_virtual_time
async def test_a_committed_group_is_created() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 5, tags={"team": "blue"}), pets("db", "10.0.0.1 10.0.0.2", volumes=True))
        await stage.converged(within_s=30)
        assert sorted(stage.alive("web")) == ["1", "2", "3", "4", "5"]
        machine = stage.alive("db")["10.0.0.2"]
        assert machine.logical_id == "10.0.0.2"
        assert machine.attachments[0].id == "vol-10.0.0.2"
        tags = stage.alive("web")["3"].tags
        assert tags["team"] == "blue"
        assert tags[values.TAG_GROUP] == "web"
        assert tags[values.TAG_HASH] == stage.controller("web").want.group.hash
        assert tags[values.TAG_TOKEN]
        assert stage.simulator.calls["provision"] == 7
        assert "label" not in stage.simulator.calls  # tags came with the creation


@in_virtual_time
async def test_a_converged_group_causes_no_calls_but_listings() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        calls = dict(stage.simulator.calls)
        await asyncio.sleep(300)
        new = {kind: n - calls[kind] for kind, n in stage.simulator.calls.items()}
        assert new.pop("describe") >= 280
        assert not any(new.values())


@in_virtual_time
async def test_concurrent_calls_are_limited_by_max_in_flight() -> None:
    async with Stage(faults=Faults(provision=Spread(low=5.0))) as stage:
        await stage.commit(cattle("web", 20, in_flight=4))
        await stage.converged()
        assert stage.simulator.in_flight_most <= 4 + 1  # and one listing


@in_virtual_time
async def test_the_end_of_a_call_causes_no_cycle_while_the_next_ones_are_queued() -> None:
    """A plan after each of thousands of creations would take longer than the creations."""
    async with Stage(faults=Faults(provision=Spread(low=0.1), lag_max=60.0), poll_s=5.0) as stage:
        await stage.commit(cattle("web", 100, in_flight=1))
        await stage.converged(within_s=30)
        assert sum(stage.controller("web").cycles.counts) < 20


@in_virtual_time
async def test_the_end_of_the_last_creation_and_of_a_failed_one_cause_a_cycle_at_once() -> None:
    async with Stage(faults=Faults(provision=Spread(low=0.1)), poll_s=300.0) as stage:
        await stage.commit(cattle("web", 2, in_flight=1))
        await stage.converged(within_s=5)
        stage.fault(refuse_rate=1.0)
        await stage.scale("web", 40)
        await stage.until(lambda: stage.messages(Kind.CREATE_FAILED), 5)
        assert stage.controller("web").began_at > asyncio.get_running_loop().time() - 1.0
        assert stage.controller("web").executor._queue


@in_virtual_time
async def test_the_end_of_a_destruction_causes_a_cycle_at_once_while_others_are_queued() -> None:
    """Its member is created again as soon as its termination is known, not after the last of the others."""
    async with Stage(faults=Faults(destroy=Spread(low=20.0)), poll_s=300.0) as stage:
        await stage.commit(cattle("web", 20, in_flight=1, updating={"MaxUnavailable": 10, "Settle": "0s"}))
        await stage.converged(within_s=60)
        await stage.commit(cattle("web", 20, version=1, in_flight=1, updating={"MaxUnavailable": 10, "Settle": "0s"}))
        await stage.until(lambda: len(stage.messages(Kind.TERMINATED)) == 1, 60)
        assert stage.controller("web").executor._queue


@in_virtual_time
async def test_the_lowest_max_in_flight_of_the_groups_of_an_account_applies() -> None:
    async with Stage(faults=Faults(provision=Spread(low=5.0))) as stage:
        await stage.commit(cattle("a", 10, in_flight=3), cattle("b", 10, in_flight=30))
        await stage.converged()
        assert stage.simulator.in_flight_most <= 3 + 1


@in_virtual_time
async def test_a_slow_call_delays_no_other_call() -> None:
    async with Stage(faults=Faults(slow_rate=0.2, slow=20.0)) as stage:
        await stage.commit(cattle("web", 12, in_flight=32))
        await stage.until(lambda: len(stage.alive("web")) >= 6, within_s=5)
        await stage.converged()
        assert len(stage.alive("web")) == 12


@in_virtual_time
async def test_scaling_down_while_creating_stops_creating() -> None:
    async with Stage(faults=Faults(provision=Spread(low=10.0))) as stage:
        await stage.commit(cattle("web", 50, in_flight=8))
        await stage.until(lambda: len(stage.alive("web")) >= 8, within_s=30)
        await stage.scale("web", 5)
        requested = stage.simulator.calls["provision"]
        await stage.converged()
        assert stage.simulator.calls["provision"] == requested  # no further creation was started
        assert len(stage.alive("web")) == 5


@pytest.mark.parametrize("tokens", [True, False])
@in_virtual_time
async def test_a_lost_reply_creates_no_second_instance(tokens: bool) -> None:
    async with Stage(faults=Faults(lost_rate=1.0, tokens=tokens, lag=Spread(low=5.0))) as stage:
        await stage.commit(pets("db", "a b c"), cattle("web", 4))
        await stage.until(lambda: stage.messages(Kind.CREATE_UNKNOWN))
        await stage.converged()
        assert sorted(stage.alive("db")) == ["a", "b", "c"]
        assert sorted(stage.alive("web")) == ["1", "2", "3", "4"]
        created_tokens = {m.token for m in stage.simulator.machines.values()}
        assert len(created_tokens) == len(stage.simulator.machines) == 7


@in_virtual_time
async def test_calls_to_a_throttling_provider_slow_down_and_the_group_converges() -> None:
    async with Stage(faults=Faults(per_second=2.0, burst=3), poll_s=5.0) as stage:
        await stage.commit(cattle("web", 30))
        await stage.converged(within_s=900)
        assert len(stage.alive("web")) == 30
        assert stage.messages(Kind.THROTTLED)
        assert len(stage.simulator.machines) == 30


@in_virtual_time
async def test_a_refused_creation_is_retried_with_exponential_back_off() -> None:
    async with Stage(faults=Faults(capacity=0)) as stage:
        await stage.commit(cattle("web", 1))
        await asyncio.sleep(300)
        requested = stage.simulator.calls["provision"]
        assert 3 <= requested <= 15
        status = await stage.status("web")
        assert "capacity is 0" in status.waiting[0].reason
        assert status.waiting[0].next_look
        stage.fault(capacity=5)
        await stage.converged()


@in_virtual_time
async def test_a_resume_by_an_operator_resets_the_back_off() -> None:
    async with Stage(faults=Faults(capacity=0)) as stage:
        await stage.commit(cattle("web", 1, healing={"Backoff": "1h", "BackoffMax": "2h"}))
        await stage.until(lambda: any("next retry" in m for m in stage.messages(Kind.WAITING)), within_s=10_000)
        stage.fault(capacity=5)
        requested = asyncio.get_running_loop().time()
        await stage.operator.resume(group=GroupID("web"), who="ann", why="a test")
        await stage.converged()
        assert asyncio.get_running_loop().time() - requested < 30


@in_virtual_time
async def test_a_seed_instance_is_adopted_as_up_to_date_and_relabelled() -> None:
    async with Stage() as stage:
        seed = stage.simulator.adopt(tags={values.TAG_GROUP: "web", values.TAG_HASH: values.BOOTSTRAP})
        await stage.commit(cattle("web", 3))
        await stage.converged()
        assert len(stage.simulator.live()) == 3
        assert stage.simulator.machines[seed].tags[values.TAG_HASH] == stage.controller("web").want.group.hash
        assert "carries the group's tag" in stage.messages(Kind.ADOPTED)[0]


@in_virtual_time
async def test_an_externally_created_instance_with_the_group_tag_counts_as_a_member() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        stage.simulator.adopt(tags={values.TAG_GROUP: "web", values.TAG_HASH: "another"})
        await stage.until(lambda: stage.simulator.calls.get("destroy"))
        await stage.converged()
        assert len(stage.simulator.live()) == 2
        assert stage.simulator.calls["provision"] == 2


class FailsAfterCreating(MinimalProvider):
    """Creates the instance, and then fails with a PluginError."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.provision = self._fail_afterwards
        self._create = simulator.provision

    async def _fail_afterwards(self, *, spec: InstanceSpec) -> InstanceID:
        await self._create(spec=spec)
        raise errors.PluginError("the tagging service said 500")


@in_virtual_time
async def test_a_plugin_error_after_a_creation_leaves_its_outcome_unknown() -> None:
    async with Stage(provider=FailsAfterCreating) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        assert len(stage.simulator.machines) == 3
        assert all("the tagging service" in m for m in stage.messages(Kind.CREATE_UNKNOWN))


@in_virtual_time
async def test_a_plan_from_before_an_unknown_outcome_requests_no_second_instance() -> None:
    """Found by the simulation: the call ended while the plan waited for the store, and the provider ignores tokens."""
    faults = Faults(tokens=False, exclusive=False, lag=Spread(low=60.0))
    async with Stage(faults=faults, provider=FailsAfterCreating) as stage:
        await stage.commit(cattle("web", 1))
        await stage.until(lambda: stage.messages(Kind.CREATE_UNKNOWN))
        group = stage.controller("web")
        retry = Provision(
            slot=Slot("1"),
            sequence=1,
            hash=group.want.group.hash,
            token=group.view.pending[Slot("1")].intent.token,
            reason="1 is declared and its creation is recorded and not requested yet",
            rule="no-instance",
            priority=Priority.HEAL,
        )
        await group.executor._calls.perform(retry)
        assert stage.simulator.calls["provision"] == 1


class FailsOnceWithoutCreating(MinimalProvider):
    """Its first creation fails and creates nothing, but its outcome is unknown to the caller."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.provision = self._fail
        self._create = simulator.provision

    async def _fail(self, *, spec: InstanceSpec) -> InstanceID:
        self.provision = self._create
        raise errors.PluginError("internal error")


@in_virtual_time
async def test_absence_from_earlier_listings_does_not_resolve_a_retried_creation() -> None:
    """Found by the simulation: the listing lag passed without the instance, then the retry created it."""
    async with Stage(faults=Faults(lag=Spread(low=1.0)), provider=FailsOnceWithoutCreating, poll_s=0.2) as stage:
        await stage.commit(pets("db", "a", healing={"Backoff": "100ms"}))
        await stage.converged()
        assert len(stage.simulator.machines) == 1
        assert stage.simulator.calls["provision"] == 1


@in_virtual_time
async def test_a_failing_prepare_is_retried_with_back_off() -> None:
    async with Stage(flavor=FlavorFaults(prepare_fail_rate=1.0)) as stage:
        await stage.commit(cattle("web", 1))
        await asyncio.sleep(120)
        assert "provision" not in stage.simulator.calls
        assert "could not prepare it: no join token" in stage.messages(Kind.CREATE_FAILED)[0]
        assert len(stage.messages(Kind.CREATE_FAILED)) < 10
        stage.flavor.faults = FlavorFaults()
        await stage.converged()


class RefusesToPrepare(SimulatedFlavor):
    """Refuses to prepare."""

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        raise errors.Refused("its volume was never formatted")


@in_virtual_time
async def test_a_refusal_by_the_flavor_is_reported_and_retried_with_back_off() -> None:
    async with Stage(flavor_class=RefusesToPrepare) as stage:
        await stage.commit(cattle("web", 1))
        await asyncio.sleep(120)
        assert 1 < len(stage.messages(Kind.CREATE_FAILED)) < 10
        assert any("never formatted" in m for m in stage.messages(Kind.WAITING))


@in_virtual_time
async def test_calls_that_do_not_reach_the_provider_are_retried() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        stage.fault(unreachable_rate=0.5)
        await stage.scale("web", 20)
        await stage.converged()
        assert len(stage.simulator.machines) == 20


@in_virtual_time
async def test_a_creation_that_did_not_reach_the_provider_has_a_known_outcome() -> None:
    class Unreachable(MinimalProvider):
        def __init__(self, simulator: Simulator) -> None:
            super().__init__(simulator)
            self.provision = self._fail

        async def _fail(self, *, spec: InstanceSpec) -> InstanceID:
            raise errors.Unreachable(f"no route to make {spec.logical_id}")

    async with Stage(provider=Unreachable) as stage:
        await stage.commit(pets("db", "a"))
        await asyncio.sleep(60)
        assert not stage.messages(Kind.CREATE_UNKNOWN)
        assert 2 <= len(stage.messages(Kind.CREATE_FAILED)) <= 10
        await stage.commit(pets("db", "b"))  # "a" is no longer declared, and was certainly not created
        await stage.until(lambda: "b" in stage.controller("db").view.pending)
        assert "a" not in stage.controller("db").view.pending


@in_virtual_time
async def test_an_obsolete_creation_is_cancelled_and_its_instance_destroyed() -> None:
    async with Stage(faults=Faults(provision=Spread(low=30.0))) as stage:
        await stage.commit(pets("db", "a b"))
        await stage.until(lambda: stage.simulator.calls.get("provision") == 2)
        await asyncio.sleep(20)  # both are created, and their responses are pending
        await stage.commit(pets("db", "a"))
        await stage.converged()
        assert sorted(stage.alive("db")) == ["a"]
        assert len(stage.simulator.live()) == 1


@in_virtual_time
async def test_a_creation_without_a_response_is_found_by_listing() -> None:
    async with Stage(faults=Faults(hang_rate=1.0)) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        assert len(stage.simulator.machines) == 2


@in_virtual_time
async def test_a_creation_that_is_listed_before_its_response_is_reported_as_created() -> None:
    async with Stage(faults=Faults(provision=Spread(low=5.0))) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        assert stage.messages(Kind.CREATE_UNKNOWN) == []
        assert stage.messages(Kind.CREATED) == ["it is listed", "it is listed"]


class FailsToStart(MinimalProvider):
    """Like Docker: the instance is listed before it is started; if that fails, it is removed, then the call fails."""

    fails, slow_s = True, 0.0
    error: errors.InfraKitError = errors.Refused("driver failed: Address already in use")

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.inspect = simulator.inspect
        self._simulator = simulator
        self._hints: asyncio.Queue[str] = asyncio.Queue()
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        instance = await self._simulator.provision(spec=spec)
        await asyncio.sleep(2.5)
        if self.fails:
            self._simulator.kill(instance)
            self._hints.put_nowait(f"{instance} was removed")
            await asyncio.sleep(self.slow_s)
            raise self.error
        return instance

    async def watch(self) -> AsyncIterator[str]:
        while True:
            yield await self._hints.get()


@pytest.mark.parametrize("slow_s", [0.0, 1.5, 10.0])
@in_virtual_time
async def test_the_error_of_a_failed_start_is_kept_although_the_listing_was_quicker(slow_s: float) -> None:
    async with Stage(provider=FailsToStart) as stage:
        await stage.commit(pets("db", "a"))
        await stage.until(stage.controllers)
        provider = stage.controller("db").account.instance
        assert isinstance(provider, FailsToStart)
        provider.slow_s = slow_s
        await stage.until(lambda: len(stage.messages(Kind.TERMINATED)) == 3)
        if slow_s < 2.0:
            assert all(
                "its creation failed: driver failed: Address already" in m for m in stage.messages(Kind.TERMINATED)
            )
        await asyncio.sleep(slow_s)
        assert "Address already in use" in stage.messages(Kind.CREATE_FAILED)[0]
        assert "Address already in use" in stage.controller("db").view.backoffs["a"].why
        explanation = await stage.operator.why(group=GroupID("db"), subject="a")
        assert "Address already in use" in " ".join(explanation.facts)
        assert stage.controller("db").view.backoffs["a"].count <= len(stage.messages(Kind.TERMINATED))
        provider.fails = False
        await stage.converged()


@in_virtual_time
async def test_an_unclear_error_of_a_creation_explains_a_termination_before_the_start_is_proven() -> None:
    class FailsUnclearly(FailsToStart):
        error = errors.PluginError("the driver has crashed")

    async with Stage(provider=FailsUnclearly) as stage:
        await stage.commit(cattle("web", 1))
        await stage.until(lambda: stage.messages(Kind.TERMINATED))
        assert "its creation failed: the driver has crashed" in stage.messages(Kind.TERMINATED)[0]
