"""Creations: as many as declared, each once, whatever the provider does to its answers."""

import asyncio

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import FlavorFaults, SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.values import Allocation, GroupID, Index, InstanceID, InstanceSpec
from tests.stage import Bare, Stage, cattle, in_virtual_time, pets


@in_virtual_time
async def test_a_declared_group_comes_into_being() -> None:
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
async def test_nothing_is_asked_for_twice_and_an_idle_group_only_lists() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        calls = dict(stage.simulator.calls)
        await asyncio.sleep(300)
        new = {kind: n - calls[kind] for kind, n in stage.simulator.calls.items()}
        assert new.pop("describe") >= 280
        assert not any(new.values())


@in_virtual_time
async def test_creations_are_bounded_by_the_declared_limit() -> None:
    async with Stage(faults=Faults(provision=Spread(low=5.0))) as stage:
        await stage.commit(cattle("web", 20, in_flight=4))
        await stage.converged()
        assert stage.simulator.in_flight_most <= 4 + 1  # and one listing


@in_virtual_time
async def test_the_lowest_limit_of_all_groups_of_an_account_holds() -> None:
    async with Stage(faults=Faults(provision=Spread(low=5.0))) as stage:
        await stage.commit(cattle("a", 10, in_flight=3), cattle("b", 10, in_flight=30))
        await stage.converged()
        assert stage.simulator.in_flight_most <= 3 + 1


@in_virtual_time
async def test_a_call_of_twenty_seconds_delays_no_other() -> None:
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
        asked = stage.simulator.calls["provision"]
        await stage.converged()
        assert stage.simulator.calls["provision"] == asked  # not one more was begun
        assert len(stage.alive("web")) == 5


@pytest.mark.parametrize("tokens", [True, False])
@in_virtual_time
async def test_a_lost_reply_makes_no_second_instance(tokens: bool) -> None:
    async with Stage(faults=Faults(lost_rate=1.0, tokens=tokens, lag=Spread(low=5.0))) as stage:
        await stage.commit(pets("db", "a b c"), cattle("web", 4))
        await stage.until(lambda: stage.messages(Kind.CREATE_UNKNOWN))
        await stage.converged()
        assert sorted(stage.alive("db")) == ["a", "b", "c"]
        assert sorted(stage.alive("web")) == ["1", "2", "3", "4"]
        made = {m.token for m in stage.simulator.machines.values()}
        assert len(made) == len(stage.simulator.machines) == 7


@in_virtual_time
async def test_a_throttling_provider_is_asked_slowly_and_is_served_in_the_end() -> None:
    async with Stage(faults=Faults(per_second=2.0, burst=3), poll_s=5.0) as stage:
        await stage.commit(cattle("web", 30))
        await stage.converged(within_s=900)
        assert len(stage.alive("web")) == 30
        assert stage.messages(Kind.THROTTLED)
        assert len(stage.simulator.machines) == 30


@in_virtual_time
async def test_a_refused_creation_is_tried_again_with_growing_patience() -> None:
    async with Stage(faults=Faults(capacity=0)) as stage:
        await stage.commit(cattle("web", 1))
        await asyncio.sleep(300)
        asked = stage.simulator.calls["provision"]
        assert 3 <= asked <= 15
        status = await stage.status("web")
        assert "capacity is 0" in status.waiting[0].reason
        assert status.waiting[0].next_look
        stage.fault(capacity=5)
        await stage.converged()


@in_virtual_time
async def test_go_of_an_operator_ends_the_patience() -> None:
    async with Stage(faults=Faults(capacity=0)) as stage:
        await stage.commit(cattle("web", 1, healing={"Backoff": "1h", "BackoffMax": "2h"}))
        await stage.until(lambda: any("next retry" in m for m in stage.messages(Kind.WAITING)), within_s=10_000)
        stage.fault(capacity=5)
        asked = asyncio.get_running_loop().time()
        await stage.operator.resume(group=GroupID("web"), who="ann", why="a test")
        await stage.converged()
        assert asyncio.get_running_loop().time() - asked < 30


@in_virtual_time
async def test_a_seed_node_joins_as_up_to_date_and_is_relabelled() -> None:
    async with Stage() as stage:
        seed = stage.simulator.adopt(tags={values.TAG_GROUP: "web", values.TAG_HASH: values.BOOTSTRAP})
        await stage.commit(cattle("web", 3))
        await stage.converged()
        assert len(stage.simulator.live()) == 3
        assert stage.simulator.machines[seed].tags[values.TAG_HASH] == stage.controller("web").want.group.hash
        assert "carries the group's tag" in stage.messages(Kind.ADOPTED)[0]


@in_virtual_time
async def test_an_instance_that_others_made_counts_as_a_member() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        stage.simulator.adopt(tags={values.TAG_GROUP: "web", values.TAG_HASH: "another"})
        await stage.until(lambda: stage.simulator.calls.get("destroy"))
        await stage.converged()
        assert len(stage.simulator.live()) == 2
        assert stage.simulator.calls["provision"] == 2


class Garbled(Bare):
    """Creates, fails in its own words, and is told about it by nobody."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.provision = self._fail_afterwards
        self._make = simulator.provision

    async def _fail_afterwards(self, *, spec: InstanceSpec) -> InstanceID:
        await self._make(spec=spec)
        raise errors.PluginError("the tagging service said 500")


@in_virtual_time
async def test_a_plugin_that_fails_after_having_created_is_not_believed() -> None:
    async with Stage(provider=Garbled) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        assert len(stage.simulator.machines) == 3
        assert all("the tagging service" in m for m in stage.messages(Kind.CREATE_UNKNOWN))


class FailsOnce(Bare):
    """Its first creation makes nothing, and nobody can tell."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.provision = self._fail
        self._make = simulator.provision

    async def _fail(self, *, spec: InstanceSpec) -> InstanceID:
        self.provision = self._make
        raise errors.PluginError("internal error")


@in_virtual_time
async def test_a_retried_creation_is_not_settled_by_what_earlier_listings_left_out() -> None:
    """Found by the simulation: the lag has passed without it, then it is asked for again and made."""
    async with Stage(faults=Faults(lag=Spread(low=1.0)), provider=FailsOnce, poll_s=0.2) as stage:
        await stage.commit(pets("db", "a", healing={"Backoff": "100ms"}))
        await stage.converged()
        assert len(stage.simulator.machines) == 1
        assert stage.simulator.calls["provision"] == 1


@in_virtual_time
async def test_a_flavor_that_cannot_prepare_is_asked_again_with_patience() -> None:
    async with Stage(flavor=FlavorFaults(prepare_fail_rate=1.0)) as stage:
        await stage.commit(cattle("web", 1))
        await asyncio.sleep(120)
        assert "provision" not in stage.simulator.calls
        assert "could not prepare it: no join token" in stage.messages(Kind.CREATE_FAILED)[0]
        assert len(stage.messages(Kind.CREATE_FAILED)) < 10
        stage.flavor.faults = FlavorFaults()
        await stage.converged()


class Refusing(SimulatedFlavor):
    """Refuses to prepare."""

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        raise errors.Refused("its volume was never formatted")


@in_virtual_time
async def test_a_refusal_of_the_flavor_is_told_and_not_repeated_at_once() -> None:
    async with Stage(flavor_class=Refusing) as stage:
        await stage.commit(cattle("web", 1))
        await asyncio.sleep(120)
        assert 1 < len(stage.messages(Kind.CREATE_FAILED)) < 10
        assert any("never formatted" in m for m in stage.messages(Kind.WAITING))


@in_virtual_time
async def test_a_provider_that_is_not_reached_is_asked_again_with_patience() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        stage.fault(unreachable_rate=0.5)
        await stage.scale("web", 20)
        await stage.converged()
        assert len(stage.simulator.machines) == 20


@in_virtual_time
async def test_an_unreachable_provider_makes_nothing_unknown() -> None:
    class Unreachable(Bare):
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
        await stage.commit(pets("db", "b"))  # "a" is not wanted any more and surely was never made
        await stage.until(lambda: "b" in stage.controller("db").view.pending)
        assert "a" not in stage.controller("db").view.pending


@in_virtual_time
async def test_a_creation_that_is_not_wanted_any_more_is_cancelled_and_cleaned_up() -> None:
    async with Stage(faults=Faults(provision=Spread(low=30.0))) as stage:
        await stage.commit(pets("db", "a b"))
        await stage.until(lambda: stage.simulator.calls.get("provision") == 2)
        await asyncio.sleep(20)  # both are made, and their answers are on the way
        await stage.commit(pets("db", "a"))
        await stage.converged()
        assert sorted(stage.alive("db")) == ["a"]
        assert len(stage.simulator.live()) == 1


@in_virtual_time
async def test_a_creation_without_an_answer_is_looked_for() -> None:
    async with Stage(faults=Faults(hang_rate=1.0)) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        assert len(stage.simulator.machines) == 2


@in_virtual_time
async def test_a_creation_that_is_listed_before_it_is_answered_is_no_alarm() -> None:
    async with Stage(faults=Faults(provision=Spread(low=5.0))) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        assert stage.messages(Kind.CREATE_UNKNOWN) == []
        assert stage.messages(Kind.CREATED) == ["it is listed", "it is listed"]
