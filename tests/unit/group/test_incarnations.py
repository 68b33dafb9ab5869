"""Providers that use an ID again: commands of operators, health and destructions are those of one incarnation."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from infrakit.group.orders import Eviction, Orders
from infrakit.group.state.member import Leaving
from infrakit.instances.simulator import Simulator
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.record import NAME, DeclarationRecord
from infrakit.spi import codec, errors, values
from infrakit.spi.event import Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Description, GroupID, Health, InstanceID, InstanceSpec, LogicalID, Slot, Token
from infrakit.stores.memory import MemoryStore
from tests import worlds
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets
from tests.unit.group.test_view import described, observe, view

ID = InstanceID("i-1")


class UsesIDsAgain(MinimalProvider):
    """A provider that names each instance by its logical ID."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.provision = self._provision
        self.destroy = self._destroy
        self.describe_instances = self._describe

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        await self._simulator.provision(spec=spec)
        return InstanceID(f"node-{spec.logical_id}")

    async def _destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        for machine in self._simulator.live():
            if instance == f"node-{machine.logical_id}":
                return await self._simulator.destroy(instance=machine.id, context=context)
        raise errors.NotFound(f"there is no {instance}")

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listing = await self._simulator.describe_instances(tags=tags, properties=properties)
        return [msgspec.structs.replace(each, id=InstanceID(f"node-{each.logical_id}")) for each in listing]


@in_virtual_time
async def test_a_command_to_destroy_an_instance_is_for_one_incarnation_of_its_id() -> None:
    async with Stage(provider=UsesIDsAgain) as stage:
        await stage.commit(pets("db", "a", healing={"UnhealthyAfter": "1h"}))
        await stage.until(lambda: InstanceID("node-a") in stage.controller("db").view.members)
        await stage.operator.destroy_instance(instance=InstanceID("node-a"), who="ann", why="a test")
        await asyncio.sleep(120)
        assert len(stage.messages(Kind.DESTROYING)) == 1
        assert stage.simulator.calls["provision"] == 2
        assert len(stage.alive("db")) == 1


@in_virtual_time
async def test_a_command_for_an_instance_without_a_token_is_forgotten_when_it_has_terminated() -> None:
    async with Stage() as stage:
        seed = stage.simulator.adopt(tags={values.TAG_GROUP: "web", values.TAG_HASH: values.BOOTSTRAP})
        await stage.commit(cattle("web", 2))
        await stage.converged()
        await stage.operator.destroy_instance(instance=seed, who="ann", why="a test")
        record = stage.replica.declaration
        assert seed in record.record.orders_of(GroupID("web")).evictions
        await stage.until(lambda: not record.record.orders_of(GroupID("web")).evictions, within_s=30.0)
        await stage.converged()
        assert len(stage.messages(Kind.DESTROYING)) == 1


class FailsToForget(MemoryStore):
    """A store that does not take new versions of the declaration while it fails."""

    fails = False

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if self.fails and name == NAME:
            raise errors.Unreachable("no quorum")
        return await super().replace(name=name, body=body, expected=expected)


@in_virtual_time
async def test_a_command_that_cannot_be_forgotten_does_not_destroy_the_next_instance_with_its_id() -> None:
    store = FailsToForget()
    async with Stage(provider=UsesIDsAgain, store=store) as stage:
        seed = {values.TAG_GROUP: "db", values.TAG_HASH: values.BOOTSTRAP}
        stage.simulator.adopt(tags=seed, logical_id=LogicalID("a"))
        await stage.commit(pets("db", "a", healing={"UnhealthyAfter": "1h"}))
        await stage.until(lambda: InstanceID("node-a") in stage.controller("db").view.members)
        await stage.operator.destroy_instance(instance=InstanceID("node-a"), who="ann", why="a test")
        store.fails = True
        await stage.until(lambda: any("could not forget" in each for each in stage.messages(Kind.ERROR)))
        await asyncio.sleep(120)
        store.fails = False
        orders = stage.replica.declaration
        await stage.until(lambda: not orders.record.orders_of(GroupID("db")).evictions, within_s=60.0)
        assert len(stage.messages(Kind.DESTROYING)) == 1
        await stage.operator.destroy_instance(instance=InstanceID("node-a"), who="ann", why="once more")
        await stage.until(lambda: len(stage.messages(Kind.DESTROYING)) == 2)


def test_a_command_that_was_given_again_is_not_forgotten() -> None:
    first, second = (Eviction(who="ann", when=when, why="") for when in ("now", "later"))
    record = changes.declare((worlds.declared(2),))(DeclarationRecord())
    record = changes.evict(GroupID("g"), {ID: Slot("1")}, second, replace=True)(record)
    assert changes.evicted(GroupID("g"), {ID: first})(record) == record
    assert changes.evicted(GroupID("g"), {ID: second})(record).orders_of(GroupID("g")) == Orders()
    assert changes.evicted(GroupID("other"), {ID: second})(record) == record


def test_a_stored_command_of_an_earlier_version_concerns_any_incarnation() -> None:
    old = codec.decode(b'{"Who": "ann", "When": "now", "Why": "disk"}', Eviction)
    assert old.concerns({values.TAG_TOKEN: "t-1"})
    assert old.concerns(None)


def test_consent_to_replace_an_unhealthy_instance_is_for_one_incarnation() -> None:
    orders = Orders(despite_unhealthy=(ID,), incarnations={ID: "t-1"})
    assert orders.is_replaced_despite_unhealthy(ID, {values.TAG_TOKEN: "t-1"})
    assert not orders.is_replaced_despite_unhealthy(ID, {values.TAG_TOKEN: "t-2"})
    assert not orders.is_replaced_despite_unhealthy(InstanceID("i-2"), {values.TAG_TOKEN: "t-1"})


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"token": "t-1"}, {"token": "t-1", "config.hash": "v2"}, True),
        ({"token": "t-1"}, {"token": "t-2"}, False),
        ({"token": "t-1"}, {}, True),  # the provider has dropped it
        ({"created": "2026-01-01"}, {"created": "2026-01-02"}, False),
        ({}, {"created": "2026-01-02"}, True),
    ],
)
def test_an_id_with_another_token_is_another_instance(
    first: dict[str, str], second: dict[str, str], same: bool
) -> None:
    observed = view()
    observe(observed, described("i-1", state=None, **first), at=1)
    member = observed.members[ID]
    observed.judged({ID: worlds.REPORTS[Health.HEALTHY]}, at=1)
    member.start_destroy()
    assert observe(observed, described("i-1", state=None, **second), at=2) == ([] if same else ["i-1"])
    now = observed.members[ID]
    assert (now is member) is same
    assert (now.leaving, now.health(2)) == (member.leaving, Health.HEALTHY) if same else ("", Health.UNKNOWN)
    assert observed.is_complete


def test_an_id_that_is_used_again_ends_an_inherited_destruction() -> None:
    observed = view()
    observed.inherit_destroys([ID], until=100.0)
    observe(observed, described("i-1", token="t-1"), at=1)
    assert observed.members[ID].leaving
    observe(observed, described("i-1", token="t-2"), at=2)
    assert not observed.members[ID].leaving
    assert observed.members[ID].token == Token("t-2")


@pytest.mark.parametrize(
    ("token", "leaving"), [("t-2", Leaving.NO), ("t-1", Leaving.DESTROYED), (None, Leaving.DESTROYED)]
)
def test_an_id_that_is_used_again_within_the_lag_is_no_late_listing(token: str | None, leaving: Leaving) -> None:
    observed = view(lag_s=10.0, can_inspect=True)
    observe(observed, described("i-1", token="t-1"), at=1)
    observed.inspected(ID, None)
    assert observe(observed, at=2) == ["i-1"]
    observe(observed, described("i-1", token=token) if token else described("i-1"), at=3)
    assert observed.members[ID].leaving is leaving
    assert not observed.members[ID].has_returned
    assert observe(observed, at=4) == []
    observed.inspected(ID, None)
    assert observe(observed, at=5) == (["i-1"] if leaving is Leaving.NO else [])
