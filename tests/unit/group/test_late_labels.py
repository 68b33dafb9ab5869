"""Labels that are listed before their response, after a later label, or not by every listing within the lag.

All of that is correct behaviour of a provider. It accuses neither the provider nor another program, and stops nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from infrakit.group.state.tags import evidence
from infrakit.instances.simulator import Faults, Simulator
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec
from tests import worlds
from tests.stage import MinimalProvider, Stage, in_virtual_time
from tests.unit.group.test_member_version import Probed, group, hashes, labelled
from tests.worlds import NOW

LAG_S = 10.0
ANSWER_S = 30.0
DB = GroupID("db")


class Provider(MinimalProvider):
    """Lists an earlier state again at times; labels take effect at once or late, and the response can be lost."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.answer_s = self.effect_s = self.created_s = 0.0
        self.earlier: Mapping[InstanceID, Description] = {}
        self._simulator = simulator
        self.label = self._label
        self.provision = self._provision
        self.describe_instances = self._describe
        self._late: list[asyncio.Task[None]] = []

    async def _label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        if self.effect_s:
            self._late.append(asyncio.create_task(self._take_effect(instance, labels, self.effect_s)))
            raise errors.OutcomeUnknown("the connection broke")
        await self._simulator.label(instance=instance, labels=labels)
        await asyncio.sleep(self.answer_s)

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        answer_s = self.created_s
        created = await self._simulator.provision(spec=spec)
        await asyncio.sleep(answer_s)
        return created

    async def _take_effect(self, instance: InstanceID, labels: Mapping[str, str], after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._simulator.label(instance=instance, labels=labels)

    async def listing(self) -> Mapping[InstanceID, Description]:
        listed = await self._simulator.describe_instances(tags={values.TAG_GROUP: DB})
        return {each.id: each for each in listed}

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listed = await self._simulator.describe_instances(tags=tags, properties=properties)
        return [self.earlier.get(each.id, each) for each in listed]


@pytest.fixture
def made() -> list[Provider]:
    return []


def stage(made: list[Provider], after: Stage | None = None) -> Stage:
    """A stage, or the next leader after another one; its provider is the last one that was made."""

    def provider(simulator: Simulator) -> Provider:
        made.append(Provider(simulator))
        return made[-1]

    probed: type[SimulatedFlavor] = Probed  # type: ignore[assignment]
    if after is None:
        return Stage(flavor_class=probed, provider=provider, faults=Faults(lag_max=LAG_S))
    return Stage(flavor_class=probed, provider=provider, store=after.store, simulator=after.simulator)


def accusations(on: Stage) -> list[str]:
    return [e.message for e in on.events if e.cause == "tags"]


def shows(on: Stage, version: str) -> bool:
    """Whether the newest listing shows that version on the first three pets."""
    members = on.controller("db").view.members.values()
    return all(m.listed_hash == version for m in members if m.slot in ("a", "b", "c"))


async def replaces(on: Stage) -> None:
    """Declare another image, and wait until all are replaced."""
    await on.commit(group("a b c", image="v2"))
    await on.converged()
    assert on.versions("db") == {"v2"}


@in_virtual_time
async def test_a_label_that_is_listed_before_its_response_may_be_omitted_again_within_the_lag(
    made: list[Provider],
) -> None:
    async with stage(made) as on:
        await on.commit(group("a b c"))
        await on.converged()
        await asyncio.sleep(2 * LAG_S)
        before = await made[-1].listing()
        made[-1].answer_s = ANSWER_S
        await on.commit(group("a b c d"))
        await on.until(lambda: on.simulator.calls.get("label") == 3 and shows(on, on.controller("db").want.group.hash))
        made[-1].earlier = before
        await asyncio.sleep(LAG_S - 2.0)
        assert not shows(on, on.controller("db").want.group.hash)
        made[-1].earlier = {}
        await labelled(on)
        assert not accusations(on)
        await replaces(on)


@in_virtual_time
async def test_a_label_that_takes_effect_after_a_later_one_is_set_again(made: list[Provider]) -> None:
    async with stage(made) as on:
        await on.commit(group("a b c"))
        await on.converged()
        made[-1].effect_s = ANSWER_S
        await on.commit(group("a b c d"))
        await on.until(lambda: len(on.messages(Kind.ERROR)) == 3)  # the labels have no outcome yet
        late = on.controller("db").want.group.hash
        made[-1].effect_s = 0.0
        await on.commit(group("a b c d e"))
        await labelled(on)
        await on.until(lambda: late in hashes(on))
        await labelled(on)
        assert not accusations(on)
        await replaces(on)


@in_virtual_time
async def test_a_label_is_newer_than_the_creation_whose_answer_comes_after_it(made: list[Provider]) -> None:
    """Found by the simulation: the late answer set the version that a label had replaced."""
    async with stage(made) as on:
        made[-1].created_s = ANSWER_S
        await on.commit(group("a b c"))
        await on.until(lambda: shows(on, on.controller("db").want.group.hash) and len(on.alive("db")) == 3)
        made[-1].created_s = 0.0
        await on.commit(group("a b c d"))
        await labelled(on)
        assert asyncio.get_running_loop().time() < ANSWER_S, "the first creations are not answered yet"
        await asyncio.sleep(ANSWER_S + 2 * LAG_S)
        assert on.simulator.calls["label"] == 3
        assert not accusations(on)
        await replaces(on)


@in_virtual_time
async def test_a_label_of_the_previous_leader_that_takes_effect_after_another_commit_is_set_again(
    made: list[Provider],
) -> None:
    async with stage(made) as first:
        await first.commit(group("a b c"))
        await first.converged()
        made[-1].effect_s = ANSWER_S
        await first.commit(group("a b c d"))
        await first.until(lambda: len(first.messages(Kind.ERROR)) == 3)
        late = first.controller("db").want.group.hash
    async with stage(made, first) as second:
        await second.commit(group("a b c d e"))
        await labelled(second)
        assert late not in hashes(second)
        await second.until(lambda: late in hashes(second))
        await labelled(second)
        assert not accusations(second)
        await replaces(second)


@in_virtual_time
async def test_a_new_leader_may_list_a_label_and_then_not_within_the_lag(made: list[Provider]) -> None:
    async with stage(made) as first:
        await first.commit(group("a b c"))
        await first.converged()
        await asyncio.sleep(2 * LAG_S)
        before = await made[-1].listing()
        for ids in (
            "a b c d",
            "a b c d e",
            "a b c d",
        ):  # so that the record does not contain the first version any more
            await first.commit(group(ids))
            await first.converged()
            await labelled(first)
        await asyncio.sleep(90.0)  # the newest version is the proven one
    async with stage(made, first) as second:
        await second.until(lambda: second.controllers() and second.controller("db").view.members)
        made[-1].earlier = before
        await asyncio.sleep(LAG_S - 2.0)
        assert not shows(second, second.controller("db").want.group.hash)
        made[-1].earlier = {}
        await labelled(second)
        assert not accusations(second)


def test_what_a_late_label_replaces_is_expected_again() -> None:
    member = worlds.member("1", version="first")
    view = worlds.view(member, lag_s=LAG_S)
    member.label_requested("first", "second", until=NOW + 100.0)  # the first may be a label of the previous leader
    member.was_labelled("second", "", NOW - 1.0)
    for serial, version in enumerate(("first", "second"), start=2):
        tags = {values.TAG_GROUP: "g", values.TAG_HASH: version}
        member.listed(Description(id=member.id, tags=tags), serial=serial, declared=None, at=NOW)
        assert member.hash == version
    view.observed_at = NOW + 10 * LAG_S
    found = evidence(view)
    assert not found.broken
    assert not found.unlabelled


def test_a_version_that_no_label_sets_is_not_accepted() -> None:
    member = worlds.member("1", version="first")
    member.label_requested("second", until=NOW)
    for serial, (version, at) in enumerate([("other", NOW), ("second", NOW + 1.0)], start=2):
        tags = {values.TAG_GROUP: "g", values.TAG_HASH: version}
        member.listed(Description(id=member.id, tags=tags), serial=serial, declared=None, at=at)
        assert member.hash == "first"
