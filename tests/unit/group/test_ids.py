"""IDs that a provider returns for creations: each is that of a new instance, or the provider has broken its promise."""

import asyncio
import random

import pytest

from infrakit.group.ledger import Intent
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.instances.simulator import Faults, Simulator
from infrakit.instances.simulator.faults import Spread
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec, Slot, Token
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
    """Answers the first token for the logical ID `b` with the ID of the newest machine, which another one had before.

    `inspects`: it can inspect an instance.
    """

    def __init__(self, simulator: Simulator, *, inspects: bool = False) -> None:
        super().__init__(simulator)
        if inspects:
            self.inspect = simulator.inspect
        self._create = simulator.provision
        self._machines = simulator.machines
        self._first = ""
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        token = (spec.tags or {})[values.TAG_TOKEN]
        if spec.logical_id == "b":
            self._first = self._first or token
            if token == self._first:
                return next(reversed(self._machines))
        return await self._create(spec=spec)


class WrongID(MinimalProvider):
    """Creates instances, and returns the ID of the oldest machine for the first token."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.inspect = simulator.inspect
        self._create = simulator.provision
        self._machines = simulator.machines
        self._first = ""
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        token = (spec.tags or {})[values.TAG_TOKEN]
        self._first = self._first or token
        created = await self._create(spec=spec)
        return next(iter(self._machines)) if token == self._first else created


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


@pytest.mark.parametrize(
    "tags",
    [
        {values.TAG_GROUP: "g", values.TAG_TOKEN: "other/g/a/1-1"},
        {values.TAG_GROUP: "h", values.TAG_TOKEN: "other/h/1/1-1"},
        {values.TAG_GROUP: "h"},
    ],
    ids=["another cluster", "another group", "without a token"],
)
@pytest.mark.parametrize("inspects", [True, False])
@in_virtual_time
async def test_a_token_that_stands_for_an_instance_of_others_now_is_given_up(
    tags: dict[str, str], inspects: bool
) -> None:
    """Found by the simulation: nothing more was created, and the remedy was to terminate the instance of the others."""
    simulator = Simulator(random=random.Random(3))
    async with Stage(simulator=simulator, provider=lambda s: FirstTokenAnswered(s, inspects=inspects)) as stage:
        await stage.commit(pets("g", "a"))
        await stage.converged()
        others = simulator.adopt(tags=tags)
        await stage.commit(pets("g", "a b"))
        if not inspects:  # only an operator knows that the ID is not that of the new instance
            await asyncio.sleep(600)
            assert simulator.calls["provision"] == 1
            remedy = " ".join(each.remedy for each in stage.controller("g").blocked)
            assert "infrakit group resume g" in remedy
            assert "terminate sim" not in remedy
            await stage.operator.resume(group=GroupID("g"), who="ann", why="the instance of b has terminated")
        await stage.converged()
        assert [each.logical_id for each in simulator.live() if each.id != others] == ["a", "b"]
        assert simulator.machines[others].lives


@in_virtual_time
async def test_a_token_that_stands_for_an_instance_of_another_declared_group_now_is_given_up() -> None:
    simulator = Simulator(random=random.Random(3))
    async with Stage(simulator=simulator, provider=lambda s: FirstTokenAnswered(s, inspects=True)) as stage:
        await stage.commit(pets("g", "a"))
        await stage.converged()
        await stage.commit(pets("g", "a"), cattle("h", 2))
        await stage.converged()
        await stage.commit(pets("g", "a b"), cattle("h", 2))
        await stage.converged()
        assert len(stage.alive("g")) == len(stage.alive("h")) == 2
        assert not stage.messages(Kind.DESTROYING)


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("group", [cattle("g", 2), pets("g", "a b")], ids=["cattle", "pets"])
@in_virtual_time
async def test_an_instance_that_is_listed_late_and_has_another_id_than_returned_is_created_once(
    tokens: bool, group: dict[str, object]
) -> None:
    """Law 3: that an inspection shows an instance of others with the returned ID does not prove that none was made."""
    faults = Faults(tokens=tokens, lag=Spread(low=15.0, high=20.0), exclusive=False)
    simulator = Simulator(faults, random=random.Random(3))
    async with Stage(simulator=simulator, provider=WrongID) as stage:
        others = simulator.adopt(tags={values.TAG_GROUP: "g", values.TAG_TOKEN: "other/g/z/1-1"})
        await asyncio.sleep(30)
        await stage.commit(group)
        await stage.converged()
        assert [each.id for each in simulator.live()] == [others, "sim-2", "sim-3"]
        assert simulator.calls["provision"] == 2
        assert not stage.messages(Kind.DESTROYING)


def another(token: str = "other/g/1/1-1", group: str = "g") -> Description:
    tags = {values.TAG_GROUP: group} | ({values.TAG_TOKEN: token} if token else {})
    return Description(id=InstanceID("i-1"), tags=tags)


def acknowledged(*members: Member, inspected: bool = False) -> tuple[GroupView, Creation]:
    """A view with a creation that was acknowledged as `i-1` just now."""
    observed = view(*members, lag_s=20.0)
    creation = pending("calling", changes=observed.changes)
    observed.pending = {Slot("1"): creation}
    creation.created(InstanceID("i-1"), observed.now)
    observed.acknowledged = {InstanceID("i-1"): Slot("1")}
    if inspected:
        observed.inspected(InstanceID("i-1"), another(creation.intent.token))
    return observed, creation


@pytest.mark.parametrize("inspected_before", [False, True])
def test_an_id_that_an_inspection_shows_as_anothers_is_not_that_of_the_creation(inspected_before: bool) -> None:
    """Only listings after the lag show that it created nothing: its instance may have another ID."""
    observed, creation = acknowledged(inspected=inspected_before)
    before, now = observed.revision, observed.now
    observed.inspected(InstanceID("i-1"), another())
    assert observed.revision > before
    assert (creation.phase, creation.instance, creation.uncertain) == (Phase.UNKNOWN, None, True)
    assert not list(observed.unconfirmed())
    assert [each.id for each in observed.possibly_live()] == [""]  # no instance of others is shown to the flavor
    assert not observed.acknowledge(Slot("2"), pending("calling"), InstanceID("i-1"), now)
    for after_s, absent in ((19.0, False), (20.0, True)):
        observed.observed_at = now + after_s
        observed.reset_backoffs()
        observed.presume_absent()
        assert creation.presumed_absent is absent


@pytest.mark.parametrize("shown", [another("t"), another(""), Description(id=InstanceID("i-1"), tags={})])
def test_an_inspected_instance_without_a_tag_may_be_that_of_the_creation(shown: Description) -> None:
    observed, creation = acknowledged()
    observed.inspected(InstanceID("i-1"), shown)
    assert (creation.phase, creation.inspected) == (Phase.CREATED, True)


def test_an_id_that_a_listing_shows_as_that_of_another_slot_is_inspected() -> None:
    observed, creation = acknowledged(member("2", name="i-1"))
    assert list(observed.unconfirmed()) == ["i-1"]
    observed.inspected(InstanceID("i-1"), another("x/g/2/1-1"))
    assert (creation.phase, list(observed.members)) == (Phase.UNKNOWN, ["i-1"])
    assert not list(acknowledged(member("1", name="i-1"))[0].unconfirmed())


def test_a_creation_that_is_presumed_absent_stays_so_when_its_id_is_used_again() -> None:
    observed, creation = acknowledged()
    observed.inspected(InstanceID("i-1"), None)
    observed.inspected(InstanceID("i-1"), another())
    assert (creation.phase, creation.presumed_absent) == (Phase.CREATED, True)
    assert observed.settle([Slot("1")]) == [(Slot("1"), creation)]
    assert not observed.absences


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
