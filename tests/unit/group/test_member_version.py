"""A member is out of date only if something has changed that this member is made from; the rest is adopted in place."""

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from infrakit.flavors.vanilla import Vanilla, probes
from infrakit.flavors.vanilla.properties import Check
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import FlavorFaults
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.manager import GroupPlan
from infrakit.spi.values import Description, GroupID, InstanceID
from tests.stage import MinimalProvider, Stage, in_virtual_time


class Probed(Vanilla):
    """The real flavor; its probes succeed without a connection, and record their timeouts."""

    def __init__(self, _simulator: Simulator, _rng: random.Random) -> None:
        super().__init__()
        self.faults = FlavorFaults()
        self.timeouts: list[str] = []

    async def _probe(self, check: Check, instance: Description) -> probes.Outcome:
        del instance
        self.timeouts.append(check.timeout)
        return probes.Outcome(True, "ok")


class WithoutLabels(MinimalProvider):
    """A provider that rejects every label, or acknowledges it and ignores it."""

    def __init__(self, simulator: Simulator, *, rejects: bool) -> None:
        super().__init__(simulator)
        self.labels, self._rejects = 0, rejects
        self.label = self._label

    async def _label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        del instance, labels
        self.labels += 1
        if self._rejects:
            raise errors.PluginError("labels are not supported")


class LosesResponses(MinimalProvider):
    """A provider whose labels take effect, and whose responses to them are lost while `lost` is set."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.lost, self._simulator = True, simulator
        self.label = self._label

    async def _label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        await self._simulator.label(instance=instance, labels=labels)
        if self.lost:
            raise errors.OutcomeUnknown("the connection broke")


def stage(**more: Any) -> Stage:
    return Stage(flavor_class=Probed, **more)  # type: ignore[arg-type]


def group(ids: str, *, image: str = "v1", size: int | None = None, **flavor: Any) -> dict[str, Any]:
    """Pets with a volume each, or cattle."""
    if size is None:
        flavor["Attachments"] = {each: [{"ID": f"vol-{each}", "Type": "volume"}] for each in ids.split()}
    properties = {
        "Allocation": {"LogicalIDs": ids.split()} if size is None else {"Size": size},
        "Instance": {"Plugin": "simulator", "Properties": {"version": image}},
        "Flavor": {"Plugin": "vanilla", "Properties": flavor},
        "Updating": {"Settle": "2s"},
        "Healing": {"BootGrace": "20s", "UnhealthyAfter": "10s", "Backoff": "2s"},
    }
    return {"kind": "group", "metadata": {"name": "db"}, "properties": properties}


def instances(on: Stage) -> dict[str, InstanceID]:
    return {slot: machine.id for slot, machine in on.alive("db").items()}


def hashes(on: Stage) -> set[str]:
    return {machine.tags[values.TAG_HASH] for machine in on.alive("db").values()}


async def planned(on: Stage, declared: dict[str, Any]) -> GroupPlan:
    (plan,) = (await on.operator.plan(text=json.dumps([declared]), source="doc")).groups
    return plan


async def labelled(on: Stage) -> None:
    await on.until(lambda: on.is_converged() and hashes(on) == {on.controller("db").want.group.hash})


@in_virtual_time
async def test_adding_a_pet_with_a_volume_replaces_none_and_so_does_taking_it_back() -> None:
    async with stage() as on:
        await on.commit(group("a b c"))
        await on.converged()
        before = instances(on)
        assert (await planned(on, group("a b c d"))).summary == "1 to create, 3 to update in place"
        await on.commit(group("a b c d"))
        await on.converged()
        assert {slot: instances(on)[slot] for slot in "abc"} == before
        assert on.simulator.calls["provision"] == 4
        await labelled(on)
        assert (await on.status("db")).up_to_date == 4
        await on.commit(group("a b c"))
        await on.converged()
        await labelled(on)
        assert instances(on) == before
        assert on.simulator.calls["provision"] == 4


@in_virtual_time
async def test_shrinking_a_quorum_replaces_none() -> None:
    async with stage() as on:
        await on.commit(group("a b c d e", Quorum=True))
        await on.converged()
        before = instances(on)
        assert (await planned(on, group("a b c", Quorum=True))).summary == "2 to destroy, 3 to update in place"
        await on.commit(group("a b c", Quorum=True))
        await on.converged()
        assert instances(on) == {slot: before[slot] for slot in "abc"}
        assert on.simulator.calls["provision"] == 5
        await on.commit(group("a b c d e", Quorum=True))
        await on.converged()
        assert {slot: instances(on)[slot] for slot in "abc"} == {slot: before[slot] for slot in "abc"}
        assert on.simulator.calls["provision"] == 7


@in_virtual_time
async def test_a_halt_stops_an_update_in_place() -> None:
    async with stage(faults=Faults(label=Spread(low=5.0, high=5.0))) as on:
        few, more = group("a b c"), group("a b c d")
        for each in (few, more):
            each["properties"]["Instance"]["MaxInFlight"] = 1
        await on.commit(few)
        await on.converged()
        assert "label" not in on.simulator.calls
        before = on.controller("db").want.group.hash
        await on.commit(more)
        await on.until(lambda: on.simulator.calls.get("label"))
        await on.operator.halt(group=GroupID("db"), who="ann", why="wait")
        begun = on.simulator.calls["label"]
        await asyncio.sleep(120)
        assert on.simulator.calls["label"] == begun < 3
        assert before in hashes(on)
        await on.operator.unhalt(group=GroupID("db"), who="ann", why="go")
        await on.converged()
        await labelled(on)


@in_virtual_time
async def test_a_label_that_is_listed_and_was_never_acknowledged_accuses_no_provider() -> None:
    made: list[LosesResponses] = []

    def provider(simulator: Simulator) -> LosesResponses:
        made.append(LosesResponses(simulator))
        return made[0]

    async with stage(provider=provider) as on:
        await on.commit(group("a b c"))
        await on.converged()
        before = instances(on)
        for ids in ("a b c d", "a b c d e"):  # the labels of the first are still being retried
            await on.commit(group(ids))
            await on.until(lambda: hashes(on) == {on.controller("db").want.group.hash})
        made[0].lost = False
        await on.commit(group("a b c d"))
        await on.converged()
        await labelled(on)
        assert {slot: instances(on)[slot] for slot in "abc"} == before
        assert not [each for each in on.messages(Kind.REFUSED) if "does not keep" in each or "was changed" in each]


@pytest.mark.parametrize("size", [None, 3])
@in_virtual_time
async def test_a_health_check_is_used_at_once_and_replaces_none(size: int | None) -> None:
    async with stage() as on:
        check = {"Command": ["true"]}
        await on.commit(group("a b c", size=size, Health=check))
        await on.converged()
        before = instances(on)
        changed = group("a b c", size=size, Health=check | {"Timeout": "7s"})
        assert (await planned(on, changed)).summary == "3 to update in place"
        await on.commit(changed)
        await labelled(on)
        await asyncio.sleep(5)
        assert instances(on) == before
        assert on.flavor.timeouts[-1] == "7s"  # type: ignore[attr-defined]
        assert not on.messages(Kind.DESTROYING)
        await on.operator.rollback(group=on.controller("db").name, who="ann", why="a test")
        await labelled(on)
        assert instances(on) == before
        await asyncio.sleep(5)
        assert on.flavor.timeouts[-1] == "2s"  # type: ignore[attr-defined]


@in_virtual_time
async def test_another_image_replaces_all_and_a_rollback_replaces_them_back() -> None:
    async with stage() as on:
        await on.commit(group("a b c"))
        await on.converged()
        assert (await planned(on, group("a b c", image="v2"))).summary == "3 to replace"
        await on.commit(group("a b c", image="v2"))
        await on.converged()
        assert on.versions("db") == {"v2"}
        await on.operator.rollback(group=on.controller("db").name, who="ann", why="a test")
        await on.converged()
        assert on.versions("db") == {"v1"}
        assert on.simulator.calls["provision"] == 9


@in_virtual_time
async def test_the_script_of_one_pet_replaces_that_pet_only() -> None:
    async with stage() as on:
        await on.commit(group("a b c", Init="x", ByLogicalID={"b": {"Init": "one"}}))
        await on.converged()
        before = instances(on)
        await on.commit(group("a b c", Init="x", ByLogicalID={"b": {"Init": "two"}}))
        await labelled(on)
        after = instances(on)
        assert [slot for slot in "abc" if after[slot] != before[slot]] == ["b"]


@in_virtual_time
async def test_a_failed_version_is_kept_apart_from_what_is_adopted_in_place() -> None:
    """The labels wait for the rolling update, so that only members of the new version count as failures of it."""
    async with stage() as on:
        await on.commit(group("a b c", ByLogicalID={"a": {"Init": "one"}}))
        await on.converged()
        on.fault(boot=Spread(low=15.0))
        await on.commit(group("a b c", ByLogicalID={"a": {"Init": "two"}}))
        await on.until(lambda: on.messages(Kind.DESTROYING))
        assert not on.messages(Kind.LABELLED)
        assert len(hashes(on)) == 1
        await labelled(on)
        assert len(on.messages(Kind.LABELLED)) == 2


@in_virtual_time
async def test_a_new_leader_knows_what_members_are_made_from_by_their_tags() -> None:
    async with stage() as first:
        await first.commit(group("a b c"))
        await first.converged()
        before = instances(first)
    async with stage(store=first.store, simulator=first.simulator) as on:
        for ids in ("a b c d", "a b c d e"):  # the second one before any label
            await on.operator.halt(who="ann", why="a test")
            await on.commit(group(ids))
        await on.operator.unhalt(who="ann", why="a test")
        await on.converged()
        assert {slot: instances(on)[slot] for slot in "abc"} == before
        assert on.simulator.calls["provision"] == 5


@in_virtual_time
async def test_members_without_the_tag_are_adopted_if_they_are_of_the_version_before() -> None:
    """As after an upgrade, and for those that the original has created."""
    async with stage() as on:
        await on.commit(group("a b c"))
        await on.converged()
        before = instances(on)
        for machine in on.simulator.live():
            del machine.tags[values.TAG_MADE_FROM]
            machine.description = None
    async with stage(store=on.store, simulator=on.simulator) as later:
        await later.commit(group("a b c d"))
        await labelled(later)
        assert {slot: instances(later)[slot] for slot in "abc"} == before
        assert all(values.TAG_MADE_FROM in machine.tags for machine in later.simulator.live())


@pytest.mark.parametrize("rejects", [True, False])
@in_virtual_time
async def test_labels_that_a_provider_does_not_support_block_nothing_and_are_not_repeated(rejects: bool) -> None:
    providers: list[WithoutLabels] = []

    def provider(simulator: Simulator) -> WithoutLabels:
        providers.append(WithoutLabels(simulator, rejects=rejects))
        return providers[0]

    async with stage(provider=provider, faults=Faults(lag=Spread())) as on:
        await on.commit(group("a b c"))
        await on.converged()
        before = instances(on)
        await on.commit(group("a b c", Drain={"Command": ["true"]}))
        await on.converged()
        await asyncio.sleep(600)
        assert on.is_converged()
        assert instances(on) == before
        assert providers[0].labels <= 30 if rejects else providers[0].labels == 3
        assert len(on.messages(Kind.ERROR)) == (3 if rejects else 0)
        await on.commit(group("a b c", image="v2"))
        await on.converged()
        assert on.versions("db") == {"v2"}
