"""A provider that does not keep the tags that InfraKit sets: that is reported once, and nothing is destroyed for it."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from infrakit.gate.census import Census
from infrakit.group.census import NAMED_MAX
from infrakit.group.plan import decide
from infrakit.group.state.identity import slot_of
from infrakit.group.state.known import Known
from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.group import Updating
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec, LogicalID, Slot
from tests import worlds
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

DROPPED, REWRITTEN = "", "somethingelse"


class ChangesTags(MinimalProvider):
    """A provider that keeps no version: it drops the tag, or sets another one; perhaps it drops the token as well."""

    def __init__(self, simulator: Simulator, version: str, *, token: bool = True) -> None:
        super().__init__(simulator)
        self._simulator, self._version, self._token = simulator, version, token
        self.provision = self._provision
        self.label = self._label

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = {name: value for name, value in (spec.tags or {}).items() if name != values.TAG_HASH}
        if self._version:
            tags[values.TAG_HASH] = self._version
        if not self._token:
            del tags[values.TAG_TOKEN]
        return await self._simulator.provision(spec=msgspec.structs.replace(spec, tags=tags))

    async def _label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        """Acknowledge it without an effect."""


class ListsWithoutLogicalID(MinimalProvider):
    """A provider that lists one pet without its logical ID, as if its tag had been removed by hand."""

    def __init__(self, simulator: Simulator, *, token: bool = True) -> None:
        super().__init__(simulator)
        self._simulator, self._token = simulator, token
        self.removed = ""
        self.describe_instances = self._describe

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listing = await self._simulator.describe_instances(tags=tags, properties=properties)
        return [self._without(each) if each.logical_id == self.removed else each for each in listing]

    def _without(self, each: Description) -> Description:
        dropped = {values.TAG_LOGICAL_ID, *([] if self._token else [values.TAG_TOKEN])}
        tags = {name: value for name, value in (each.tags or {}).items() if name not in dropped}
        return msgspec.structs.replace(each, logical_id=None, tags=tags)


def refused(on: Stage) -> list[str]:
    return [e.message for e in on.events if e.type is Kind.REFUSED and e.cause == "tags"]


async def retag(on: Stage, machine: Machine, version: str) -> None:
    """Change the tag of a version, as another program would."""
    await on.simulator.label(instance=machine.id, labels={values.TAG_HASH: version})


def provisions(on: Stage) -> int:
    return on.simulator.calls["provision"]


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("version", [DROPPED, REWRITTEN])
@pytest.mark.parametrize("lag_s", [0.0, 5.0])
@in_virtual_time
async def test_instances_are_not_replaced_because_the_provider_keeps_no_version(
    version: str, token: bool, lag_s: float
) -> None:
    def provider(simulator: Simulator) -> ChangesTags:
        return ChangesTags(simulator, version, token=token)

    faults = Faults(lag=Spread(high=lag_s))
    async with Stage(provider=provider, faults=faults) as first:
        await first.commit(cattle("web", 12))
        await first.converged()  # it has created them, so it knows their version
        await asyncio.sleep(600)
        assert first.is_converged()
        assert provisions(first) == 12
        assert len(refused(first)) == 1
        await first.commit(cattle("web", 12, version=1, updating={"MaxSurge": 2}))
        await asyncio.sleep(600)
        assert not first.is_converged()
        assert provisions(first) == 12
    replaced = 12
    for _ in range(2):
        async with Stage(store=first.store, simulator=first.simulator, provider=provider) as leader:
            await leader.until(leader.controllers)
            await asyncio.sleep(600)
            assert not leader.is_converged()
            assert provisions(leader) - replaced <= (0 if token and not version else 1 + 2)  # with the surge
            assert len(leader.alive("web")) == 12
            assert len(leader.messages(Kind.DESTROYING)) <= 3
            assert refused(leader)
            replaced = provisions(leader)


@in_virtual_time
async def test_the_census_knows_the_version_whose_tag_was_lost() -> None:
    async with Stage(provider=lambda s: ChangesTags(s, REWRITTEN)) as first:
        await first.commit(cattle("web", 12))
        await first.converged()
    for _ in range(3):
        async with Stage(
            store=first.store, simulator=first.simulator, provider=lambda s: ChangesTags(s, REWRITTEN)
        ) as leader:
            await asyncio.sleep(600)
            assert not leader.messages(Kind.DESTROYING)
            assert "changed by another program" in " ".join(leader.messages(Kind.WAITING))


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("version", [DROPPED, REWRITTEN])
@in_virtual_time
async def test_more_members_than_a_census_names_are_not_replaced_either(version: str, token: bool) -> None:
    size = NAMED_MAX + 20

    def provider(simulator: Simulator) -> ChangesTags:
        return ChangesTags(simulator, version, token=token)

    async with Stage(provider=provider, poll_s=10.0) as first:
        await first.commit(cattle("web", size, in_flight=size))
        await first.converged()
        await asyncio.sleep(60)  # so that the census shows all of them
    for _ in range(3):
        async with Stage(store=first.store, simulator=first.simulator, provider=provider, poll_s=10.0) as leader:
            await asyncio.sleep(120)
            assert not leader.messages(Kind.DESTROYING)
            assert provisions(leader) == len(leader.alive("web")) == size
            reported = refused(leader) + leader.messages(Kind.WAITING)
            assert any(f"the tag {values.TAG_HASH}" in each for each in reported)


@in_virtual_time
async def test_a_rolling_update_of_more_members_than_a_census_names_is_continued_by_the_next_leader() -> None:
    size, updating = NAMED_MAX + 20, {"MaxUnavailable": 150}
    async with Stage(poll_s=5.0) as first:
        await first.commit(cattle("web", size, in_flight=size))
        await first.converged()
        await first.commit(cattle("web", size, version=1, in_flight=size, updating=updating))
        await first.until(lambda: provisions(first) > size + 200)
        await asyncio.sleep(10)  # so that the census has the version that is declared now
    assert first.versions("web") == {0, 1}
    async with Stage(store=first.store, simulator=first.simulator, poll_s=5.0) as leader:
        await leader.converged(within_s=1200.0)
        assert leader.versions("web") == {1}


@pytest.mark.parametrize(
    ("declared", "creating", "is_current"),
    [("v1", [], True), ("v2", [], False), ("v1", [Slot("7")], False)],
    ids=["declared", "another version is declared", "it may be newer than the census"],
)
def test_a_census_of_slots_shows_the_version_of_their_members(
    declared: str, creating: list[Slot], is_current: bool
) -> None:
    known = Known()
    known.recall(Census(slots=("1-9",), version="v1", current=("1-7",)))
    members = {member.id: member for member in (worlds.member("7", version="x"), worlds.member("8", version="x"))}
    compare = known.compare(
        members,
        group=GroupID("g"),
        declared=None,
        version=declared,
        creating=creating,
        begun_at=0.0,
        proof_s=1.0,
    )
    assert list(compare) == []
    assert [m.hash for m in members.values()] == [declared if is_current else "x", "x"]


@in_virtual_time
async def test_without_a_surge_and_a_census_a_new_leader_replaces_at_most_one() -> None:
    def provider(simulator: Simulator) -> ChangesTags:
        return ChangesTags(simulator, REWRITTEN)

    async with Stage(provider=provider) as first:
        await first.commit(cattle("web", 12, updating={"MaxUnavailable": 4}))
        await first.converged()
    census = await first.store.read(name="census-web")
    await first.store.replace(name="census-web", body=b"", expected=census.revision)
    async with Stage(store=first.store, simulator=first.simulator, provider=provider) as leader:
        await asyncio.sleep(600)
        assert len(leader.messages(Kind.DESTROYING)) == 1
        assert len(refused(leader)) == 1
        assert "1 other" not in refused(leader)[0]


@in_virtual_time
async def test_a_tag_that_is_changed_by_hand_is_reported_once_and_ignored_until_it_is_restored() -> None:
    async with Stage() as on:
        await on.commit(cattle("web", 3))
        await on.converged()
        machine = on.alive("web")["2"]
        before = machine.tags[values.TAG_HASH]
        await retag(on, machine, "x")
        await asyncio.sleep(300)
        assert provisions(on) == 3
        assert len(refused(on)) == 1
        await retag(on, machine, before)
        await on.operator.resume(group=GroupID("web"), who="ann", why="a test")
        await on.commit(cattle("web", 3, version=1))
        await on.converged()
        assert on.versions("web") == {1}
        assert provisions(on) == 6


@in_virtual_time
async def test_a_tag_of_an_instance_of_an_earlier_leader_is_ignored_too_and_does_not_stop_updates() -> None:
    async with Stage() as first:
        await first.commit(cattle("web", 3))
        await first.converged()
    async with Stage(store=first.store, simulator=first.simulator) as on:
        await on.until(on.is_converged)
        await retag(on, on.alive("web")["2"], "")
        await asyncio.sleep(300)
        assert provisions(on) == 3
        assert "changed by another program" in " ".join(on.messages(Kind.WAITING))
        await on.commit(cattle("web", 3, version=1))
        await on.converged()
        assert on.versions("web") == {1}


@in_virtual_time
async def test_a_bootstrap_member_whose_label_has_no_effect_is_labelled_once() -> None:
    labelled: list[InstanceID] = []

    class Counts(ChangesTags):
        async def _label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
            del labels
            labelled.append(instance)

    async with Stage(provider=lambda s: Counts(s, DROPPED)) as on:
        tags = {values.TAG_GROUP: "db", values.TAG_HASH: values.BOOTSTRAP}
        on.simulator.adopt(tags=tags, logical_id=LogicalID("a"))
        await on.commit(pets("db", "a"))
        await on.converged()
        await asyncio.sleep(300)
        assert len(labelled) == 1
        assert not on.messages(Kind.DESTROYING)


@pytest.mark.parametrize(
    ("token", "census", "by"),
    [(True, True, "its token"), (False, True, "an earlier listing"), (False, False, "its volume")],
)
@in_virtual_time
async def test_a_pet_whose_logical_id_was_removed_by_hand_is_still_that_pet(token: bool, census: bool, by: str) -> None:
    providers: list[ListsWithoutLogicalID] = []

    def provider(simulator: Simulator) -> ListsWithoutLogicalID:
        providers.append(ListsWithoutLogicalID(simulator, token=token))
        return providers[-1]

    async with Stage(provider=provider) as on:
        await on.commit(pets("db", "a b c", volumes=True))
        await on.converged()
        providers[0].removed = "b"
        await asyncio.sleep(300)
        assert on.is_converged()
        assert not on.messages(Kind.DESTROYING)
        pet = on.alive("db")["b"].id
        assert [m for m in on.messages(Kind.WAITING) if "logical ID" in m] == [
            f"{pet} is listed without its logical ID; its token shows that it is b"
        ]
    if not census:
        await on.store.replace(name="census-db", body=b"", expected=(await on.store.read(name="census-db")).revision)
    async with Stage(store=on.store, simulator=on.simulator, provider=provider) as later:
        providers[1].removed = "b"
        await later.converged()
        await asyncio.sleep(300)
        assert not later.messages(Kind.DESTROYING)
        assert len([m for m in later.messages(Kind.WAITING) if by in m]) == 1
    assert provisions(on) == 3


@pytest.mark.parametrize(
    ("token", "slot"),
    [
        ("c1/db/10.0.0.1/17", "10.0.0.1"),
        ("c1/db/a/b/17", "a/b"),
        ("bootstrap/db/a/ff00", "a"),
        ("c1/other/a/17", ""),
        ("c1/db/17", ""),
        ("c1/db//17", ""),
        ("db/a", ""),
        ("", ""),
    ],
)
def test_a_token_names_the_slot(token: str, slot: str) -> None:
    assert slot_of(token, "db") == slot


def test_instances_of_an_unknown_version_are_replaced_one_first() -> None:
    members = [worlds.member(str(n), version="unknown") for n in range(1, 5)]
    want = worlds.want(4, updating=Updating(max_unavailable=3))
    plan = decide(want, worlds.view(*members))
    assert len(plan.actions) == 1
    kept = worlds.member("1")
    kept.listed_hash, kept.hash_set_at = kept.hash, 0.0
    assert len(decide(want, worlds.view(kept, *members[1:])).actions) == 3


@in_virtual_time
async def test_a_label_of_the_previous_leader_that_takes_effect_late_is_accepted() -> None:
    async with Stage() as first:
        await first.commit(cattle("web", 2))
        await first.converged()
        machine = first.alive("web")["1"]
        declared = machine.tags[values.TAG_HASH]
        await retag(first, machine, "earlier")
    async with Stage(store=first.store, simulator=first.simulator) as on:
        await on.operator.halt(who="ann", why="a test")
        await on.until(lambda: on.controllers() and on.controller("web").view.members)
        await retag(on, machine, declared)
        await asyncio.sleep(5)
        await on.operator.unhalt(who="ann", why="a test")
        await on.converged()
        assert provisions(on) == 2
        assert not [m for m in on.messages(Kind.WAITING) if "changed by another program" in m]


@in_virtual_time
async def test_an_operator_may_set_the_tag_of_a_version_to_bootstrap_to_adopt_an_instance() -> None:
    async with Stage() as on:
        await on.commit(cattle("web", 2))
        await on.converged()
        declared = on.controller("web").want.group.hash
        await retag(on, on.alive("web")["1"], values.BOOTSTRAP)
        await on.until(lambda: on.messages(Kind.LABELLED))
        await on.converged()
        assert {machine.tags[values.TAG_HASH] for machine in on.alive("web").values()} == {declared}
        assert provisions(on) == 2


class ListsTagsLate(MinimalProvider):
    """A provider that lists the version of an instance later than it promises."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.describe_instances = self._describe

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listing = await self._simulator.describe_instances(tags=tags, properties=properties)
        return [self._shown(each) for each in listing]

    def _shown(self, each: Description) -> Description:
        if asyncio.get_running_loop().time() >= self._simulator.machines[each.id].created_at + 20.0:
            return each
        kept = {name: value for name, value in (each.tags or {}).items() if name != values.TAG_HASH}
        return msgspec.structs.replace(each, tags=kept)


@in_virtual_time
async def test_tags_that_are_listed_later_than_promised_are_trusted_again_without_an_operator() -> None:
    async with Stage(provider=ListsTagsLate, faults=Faults(lag_max=5.0)) as on:
        await on.commit(pets("db", "a b c"))
        await on.until(lambda: refused(on))  # nothing is listed within the lag, which may have been forever
        await on.until(lambda: not on.controller("db").view.tags_broken)
        await on.commit(pets("db", "a b c", version=1))
        await on.converged()
        assert on.versions("db") == {1}
        assert provisions(on) == 6
