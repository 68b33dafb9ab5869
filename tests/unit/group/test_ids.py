"""IDs that a provider returns for creations: each is that of a new instance, or the provider has broken its promise."""

import asyncio
import random

import pytest

from infrakit.group.ledger import Intent
from infrakit.instances.simulator import Faults, Simulator
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.values import InstanceID, InstanceSpec, Slot, Token
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets
from tests.worlds import member, pending, view


class AlwaysTheSameID(MinimalProvider):
    """Creates one instance, and returns its ID for every creation."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._create = simulator.provision
        self._simulator = simulator
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        if self._simulator.machines:
            self._simulator.calls["provision"] += 1
            return next(iter(self._simulator.machines))
        return await self._create(spec=spec)


class FirstTokenAnswered(MinimalProvider):
    """Answers the first token for the logical ID `b` with the ID of `a`, which a terminated machine had before."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._create = simulator.provision
        self._machines = simulator.machines
        self._first = ""
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        token = (spec.tags or {})[values.TAG_TOKEN]
        if spec.logical_id == "b":
            self._first = self._first or token
            if token == self._first:
                return next(iter(self._machines))
        return await self._create(spec=spec)


class NoID(MinimalProvider):
    """Creates nothing, and returns an empty ID."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._calls = simulator.calls
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        del spec
        self._calls["provision"] = self._calls.get("provision", 0) + 1
        return InstanceID("")


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("group", [cattle("g", 3), pets("g", "a b c")], ids=["cattle", "pets"])
@in_virtual_time
async def test_an_id_that_another_instance_has_is_reported_once_and_retried_with_back_off(
    tokens: bool, group: dict[str, object]
) -> None:
    async with Stage(faults=Faults(tokens=tokens), provider=AlwaysTheSameID) as stage:
        await stage.commit(group)
        await asyncio.sleep(42)
        assert stage.simulator.calls["provision"] <= 3 + 2 * 5  # retries with the same token after 2, 4, 8, 16 s
        told = stage.messages(Kind.CREATE_UNKNOWN)
        assert len(told) == 2
        assert all("the provider returned the ID sim-1, which is already that of" in message for message in told)
        assert len(stage.controller("g").view.members) == 1
        assert not stage.is_converged()
        waiting = " ".join(w.reason for w in (await stage.status("g")).waiting)
        assert waiting.count("the provider returned the ID sim-1") == 2
        await asyncio.sleep(1000)
        assert stage.simulator.calls["provision"] <= 40


@in_virtual_time
async def test_a_token_that_stands_for_another_instance_now_is_given_up_once_listings_would_show_its_own() -> None:
    """Found by the simulation: it was retried forever, also after an operator had resumed the group."""
    async with Stage(simulator=Simulator(random=random.Random(3)), provider=FirstTokenAnswered) as stage:
        await stage.commit(pets("g", "a"))
        await stage.converged()
        await stage.commit(pets("g", "a b"))
        await stage.converged()
        assert [each.logical_id for each in stage.simulator.live()] == ["a", "b"]


@in_virtual_time
async def test_an_empty_id_is_no_id() -> None:
    async with Stage(faults=Faults(tokens=False), provider=NoID) as stage:
        await stage.commit(cattle("g", 1))
        await asyncio.sleep(1000)
        assert stage.simulator.calls["provision"] <= 2
        assert "the provider returned no ID" in stage.messages(Kind.CREATE_UNKNOWN)[0]


def test_a_listed_instance_with_the_token_of_another_creation_settles_only_that_one() -> None:
    observed = view(member("1", name="i-1"))
    observed.members[InstanceID("i-1")].token = pending().intent.token
    mine, other = pending("created", instance=InstanceID("i-1")), pending("created", instance=InstanceID("i-1"))
    other.intent = Intent(token=Token("another"), hash="v", at=0.0)
    observed.pending = {Slot("1"): mine, Slot("2"): other}
    assert list(observed.settled()) == ["1"]


def test_an_instance_without_a_token_is_that_of_its_slot() -> None:
    observed = view(member("1", name="i-1"))
    for slot, told in (("1", ""), ("2", "which is already that of 1")):
        creation = pending("calling")
        assert told in observed.acknowledge(Slot(slot), creation, InstanceID("i-1"), now=5.0)
        assert (creation.instance is None) is bool(told)
