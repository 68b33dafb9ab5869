"""Instances that are no members of a group are kept until their termination is confirmed."""

import asyncio
import random
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from infrakit.group.plan.foreign import holders
from infrakit.group.state.others import Others
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.cloud import FOREIGN
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import Allocation, Description, GroupID, InstanceID, LogicalID, State
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets
from tests.unit.group.test_membership import ScriptedFlavor

LAG_S = 60.0
OURS = {"c1"}
I9 = InstanceID("i-9")


def described(token: str = "c2/g/a/7", group: str = "g", state: State = State.RUNNING) -> Description:
    tags = {values.TAG_GROUP: group} | ({values.TAG_TOKEN: token} if token else {})
    return Description(id=I9, logical_id=LogicalID("a"), tags=tags, state=state)


def known(instance: Description, *, can_inspect: bool = False) -> Others:
    """A state in which the instance was listed once, at 0 s."""
    others = Others(group=GroupID("g"), lag_s=LAG_S, can_inspect=can_inspect)
    observe(others, instance, at=0.0)
    return others


def observe(others: Others, *listing: Description, at: float, members: Sequence[Description] = ()) -> None:
    everything = [*listing, *members]
    others.listed(listing, everything=everything, ours=OURS, declared={"a"}, begun_at=at)


def ids(others: Others) -> list[InstanceID]:
    return [each.id for each in others.all(())]


@pytest.mark.parametrize("instance", [described(), described("c1/h/a/7", "h")])
def test_one_that_is_not_listed_is_kept_for_the_lag(instance: Description) -> None:
    others = known(instance)
    for at in (10.0, 20.0, 10.0 + LAG_S - 1.0):
        observe(others, at=at)
        assert ids(others) == [I9]
    observe(others, at=10.0 + LAG_S)
    assert ids(others) == []


@pytest.mark.parametrize("lag_s", [LAG_S, 0.0])
def test_a_single_listing_after_a_long_time_proves_nothing(lag_s: float) -> None:
    others = known(described())
    others.lag_s = lag_s
    observe(others, at=1000.0)
    assert ids(others) == [I9]


@pytest.mark.parametrize("shown", [None, LogicalID("b")])
def test_a_logical_id_that_it_once_had_remains_its_own(shown: LogicalID | None) -> None:
    others = known(described("c2/g/7"))
    for at in (10.0, 20.0):
        observe(others, msgspec.structs.replace(described("c2/g/7"), logical_id=shown), at=at)
        assert set(map(str, holders(others.all(())))) == {"a"} | ({shown} if shown else set())
    observe(others, msgspec.structs.replace(described("c2/g/8"), logical_id=shown), at=30.0)  # another machine
    assert set(map(str, holders(others.all(())))) == ({shown} if shown else set())


def test_one_that_is_listed_again_counts_anew() -> None:
    others = known(described())
    observe(others, at=10.0)
    observe(others, described(), at=20.0)
    assert others.kept == {}
    observe(others, at=30.0)
    observe(others, at=10.0 + LAG_S)
    assert ids(others) == [I9]


def test_if_the_provider_can_inspect_only_that_confirms_a_termination() -> None:
    others = known(described(), can_inspect=True)
    observe(others, at=10.0)
    observe(others, at=1000.0)
    assert list(others.unconfirmed({"a"})) == [I9]
    assert not others.inspected(I9, described())
    assert ids(others) == [I9]
    assert others.inspected(I9, None)
    assert ids(others) == []
    assert not others.inspected(I9, None)


def test_one_without_concern_to_the_group_is_not_inspected() -> None:
    others = Others(group=GroupID("g"), lag_s=LAG_S, can_inspect=True)
    elsewhere = described("c1/h/b/7", "h")
    elsewhere = msgspec.structs.replace(elsewhere, logical_id=LogicalID("b"))
    observe(others, elsewhere, at=0.0)
    observe(others, at=10.0)
    assert list(others.unconfirmed({"a"})) == []
    assert list(others.unconfirmed({"b"})) == [I9]  # if it is declared meanwhile
    observe(others, at=10.0 + LAG_S)
    assert ids(others) == []


@pytest.mark.parametrize(
    "now",
    [
        described(state=State.TERMINATED),
        described("c1/g/a/8"),  # adopted, or a new instance with the same ID
        described("", "h"),
        described("", state=State.TERMINATED),
    ],
)
def test_one_that_is_listed_as_another_or_terminated_is_not_kept(now: Description) -> None:
    others = known(described())
    observe(others, at=10.0, members=[now])
    assert ids(others) == []


def test_one_of_another_cluster_is_no_member_when_it_loses_its_token() -> None:
    others, untagged = known(described()), described("")
    for at in (10.0, 200.0):
        observe(others, at=at, members=[untagged])
        assert others.without([untagged]) == []
        assert ids(others) == [I9]
        assert list(others.unconfirmed({"a"})) == []
    others.listed((), everything=[untagged], ours={"c1", "c2"}, declared={"a"}, begun_at=300.0)  # its cluster: adopted
    assert others.without(members := [untagged]) is members


class Hidden(MinimalProvider):
    """A provider that lists late and cannot inspect; a test hides everything that it has."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.is_empty = False
        self.describe_instances = self._describe

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        return () if self.is_empty else await self._simulator.describe_instances(tags=tags, properties=properties)


@in_virtual_time
async def test_no_second_bearer_while_a_listing_omits_the_instance_of_another_cluster() -> None:
    faults = Faults(exclusive=False, lag=Spread(low=LAG_S, high=LAG_S))
    simulator = Simulator(faults, random=random.Random(3))
    other = simulator.adopt(
        tags={values.TAG_GROUP: "db", values.TAG_TOKEN: f"{FOREIGN}/db/a/1"}, logical_id=LogicalID("a")
    )
    provider = Hidden(simulator)
    await asyncio.sleep(LAG_S)
    async with Stage(simulator=simulator, provider=lambda _simulator: provider) as stage:
        await stage.commit(pets("db", "a b"))
        await stage.until(lambda: any("cluster other" in each for each in stage.messages(Kind.REFUSED)))
        await asyncio.sleep(2 * LAG_S)
        provider.is_empty = True
        await asyncio.sleep(LAG_S / 2)
        provider.is_empty = False
        await asyncio.sleep(2 * LAG_S)
        assert [each.id for each in simulator.live() if each.logical_id == "a"] == [other]
        simulator.kill(other)
        await stage.converged()


@in_virtual_time
async def test_a_member_whose_token_is_shown_again_and_names_another_cluster_is_no_member_any_more() -> None:
    """Found by the simulation: it was missing forever, because an inspection showed that it lives."""
    async with Stage() as stage:
        await stage.commit(cattle("web", 0))
        await stage.operator.halt(group=None, who="ann", why="a test")
        instance = stage.simulator.adopt(tags={values.TAG_GROUP: "web"})
        members = stage.controller("web").view.members
        await stage.until(lambda: instance in members)
        machine = stage.simulator.machines[instance]
        machine.tags[values.TAG_TOKEN], machine.description = f"{FOREIGN}/web/1/1", None
        stage.simulator._changed += 1
        await stage.until(lambda: instance not in members)
        await stage.operator.unhalt(group=None, who="ann", why="a test")
        await stage.converged()
        assert machine.lives


class Asserting(ScriptedFlavor):
    """Records the groups of the instances that its member list is compared with."""

    groups: frozenset[str] = frozenset()

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        self.groups |= {(each.tags or {})[values.TAG_GROUP] for each in instances}
        await super().change_membership(
            properties=properties, change=change, instances=instances, allocation=allocation
        )


@in_virtual_time
async def test_a_member_list_is_not_compared_with_the_instances_of_other_groups() -> None:
    """Found by the simulation: the flavor of one group removed a new member of another."""
    async with Stage(flavor_class=Asserting) as stage:
        assert isinstance(stage.flavor, Asserting)
        await stage.commit(pets("web", "x y"))
        await stage.converged()
        stage.flavor.groups = frozenset()
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        assert stage.flavor.groups == {"db"}
