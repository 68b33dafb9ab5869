"""Plugins that break one rule each: exactly the check of that rule fails, and no instance is left behind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.conformance import NOTHING_LEFT
from infrakit.conformance.made import CASE
from infrakit.flavors.vanilla import Vanilla
from infrakit.instances.simulator import Simulator
from infrakit.spi import errors
from infrakit.spi.flavor import MembershipChange, Voter
from infrakit.spi.group import GroupDescription, GroupSpec
from infrakit.spi.instance import DestroyContext
from infrakit.spi.metadata import Change, Proposal
from infrakit.spi.values import (
    TAG_TOKEN,
    Allocation,
    Attachment,
    Description,
    GroupID,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
)
from tests.integration.conformance.checking import capabilities, checked, failed, skipped
from tests.integration.conformance.good import WEB, Controller, ReadableTree, Tree

# -- instances -----------------------------------------------------------------------------------------------------


class ForgetsTags(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = {name: value for name, value in (spec.tags or {}).items() if name != "size"}
        return await super().provision(spec=msgspec.structs.replace(spec, tags=tags))


class MatchesAnyTag(Simulator):
    """Lists instances that have at least one of the tags."""

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        everything = await super().describe_instances(tags={})
        return [d for d in everything if not tags or tags.items() & (d.tags or {}).items()]


class MatchesMissingTag(Simulator):
    """Like some plugins of the original: an instance without a tag matches any value of it."""

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        everything = await super().describe_instances(tags={})
        return [d for d in everything if all((d.tags or {}).get(k, v) == v for k, v in tags.items())]


class ForgetsLogicalID(Simulator):
    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        found = await super().describe_instances(tags=tags)
        return [msgspec.structs.replace(d, logical_id=None) for d in found]


class InventsLogicalID(Simulator):
    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        found = await super().describe_instances(tags=tags)
        return [msgspec.structs.replace(d, logical_id=d.logical_id or LogicalID("")) for d in found]


class ListsTwice(Simulator):
    """Lists an instance twice when its properties are requested."""

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        found = await super().describe_instances(tags=tags, properties=properties)
        return [*found, *found] if properties and "infrakit.check.case" in tags and len(found) == 1 else found


class ReplacesLabels(Simulator):
    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        await super().label(instance=instance, labels={"kept": "gone"} | dict(labels))


class AcceptsUnknown(Simulator):
    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        try:
            await super().label(instance=instance, labels=labels)
        except errors.NotFound:
            return


class Doubles(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        await super().provision(spec=spec)
        return await super().provision(spec=spec)


class DestroysAnother(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        try:
            await super().destroy(instance=instance, context=context)
        except errors.NotFound:
            for other in await self.describe_instances(tags={}):
                await super().destroy(instance=other.id, context=context)


class RequiresReasons(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        if not context.reason:
            raise errors.Refused("say why")
        await super().destroy(instance=instance, context=context)


class RefusesEmptyQuery(Simulator):
    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        if not tags:
            raise errors.Refused("say which")
        return await super().describe_instances(tags=tags, properties=properties)


class SameIDs(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        created = await super().provision(spec=spec)
        case = (spec.tags or {}).get(CASE)
        alike = [machine.id for machine in self.live() if (machine.tags or {}).get(CASE) == case]
        return created if len(alike) < 4 else alike[0]


class Latin(Simulator):
    """Accepts only ASCII in scripts."""

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        if not spec.init.isascii():
            raise errors.Refused("ASCII, please")
        return await super().provision(spec=spec)


class ValidatesByProvisioning(Simulator):
    async def validate(self, *, properties: msgspec.Raw) -> None:
        await super().provision(spec=InstanceSpec(properties=properties))


class RefusesAttachments(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        if spec.attachments:
            raise errors.Refused("there are no volumes here")
        if spec.logical_id:
            raise errors.Refused("there are no addresses here")
        return await super().provision(spec=spec)


BROKEN: dict[type[Simulator], set[str]] = {
    ForgetsTags: {"tags-and"},
    MatchesAnyTag: {"tags-and"},
    MatchesMissingTag: {"tags-and"},
    ForgetsLogicalID: {"logical-id"},
    InventsLogicalID: {"no-logical-id"},
    ListsTwice: {"describe-properties", "init"},
    ReplacesLabels: {"label"},
    AcceptsUnknown: {"unknown-instance"},
    Doubles: {"describe-after-provision", "concurrency"},
    DestroysAnother: {"destroy-twice"},
    RequiresReasons: {"destroy-reasons"},
    RefusesEmptyQuery: {"validate", "no-tags", "wrong-params"},
    SameIDs: {"concurrency"},
    Latin: {"init"},
    ValidatesByProvisioning: {"validate"},
}


@pytest.mark.parametrize("plugin", BROKEN, ids=lambda plugin: plugin.__name__)
async def test_the_check_of_a_broken_rule_fails(path: Path, plugin: type[Simulator]) -> None:
    simulator = plugin()
    found = await checked(path, simulator)
    assert failed(found) == {f"instance/{name}" for name in BROKEN[plugin]}
    assert [machine for machine in simulator.live() if machine.tags] == []


async def test_checks_of_features_that_a_provider_lacks_are_skipped(path: Path) -> None:
    found = await checked(path, RefusesAttachments())
    assert failed(found) == set()
    assert skipped(found) == {"instance/attachments", "instance/logical-id"}
    (volumes,) = [o for o in found if o.name == "instance/attachments"]
    assert "there are no volumes here" in volumes.seen


class NeverDestroys(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        pass


class RefusesToDestroy(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        raise errors.Refused("never")


@pytest.mark.parametrize("plugin", [NeverDestroys(), RefusesToDestroy()], ids=lambda plugin: type(plugin).__name__)
async def test_remaining_instances_are_reported(path: Path, plugin: Simulator) -> None:
    found = await checked(path, plugin)
    assert {"instance/destroy", NOTHING_LEFT} <= failed(found)
    (left,) = [o for o in found if o.name == NOTHING_LEFT]
    assert set(left.seen.split(", ")) == {machine.id for machine in plugin.live()}


# -- capabilities --------------------------------------------------------------------------------------------------


class IgnoresTokens(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = {name: value for name, value in (spec.tags or {}).items() if name != TAG_TOKEN}
        created = await super().provision(spec=msgspec.structs.replace(spec, tags=tags))
        await self.label(instance=created, labels=spec.tags or {})
        return created


class DoublesTokens(IgnoresTokens):
    """Returns the instance of the token, after creating a second one."""

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        created = await super().provision(spec=spec)
        token = (spec.tags or {}).get(TAG_TOKEN)
        matching = [m.id for m in self.live() if token and (m.tags or {}).get(TAG_TOKEN) == token]
        return min(matching, default=created)


@pytest.mark.parametrize("plugin", [IgnoresTokens(), DoublesTokens()], ids=lambda plugin: type(plugin).__name__)
async def test_ignored_tokens_are_a_missing_capability_and_not_a_failure(path: Path, plugin: Simulator) -> None:
    found = await checked(path, plugin)
    assert failed(found) == set()
    assert "tokens" not in capabilities(found)
    assert plugin.live() == []


class PlainTags(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        if not all(value.isprintable() and value.isascii() for value in (spec.tags or {}).values()):
            raise errors.Refused("plain tags, please")
        return await super().provision(spec=spec)


async def test_any_text_in_tags_is_a_capability(path: Path) -> None:
    found = await checked(path, PlainTags())
    assert failed(found) == set()
    assert "any-text" not in capabilities(found)


# -- flavors -------------------------------------------------------------------------------------------------------


class Preparing(Vanilla):
    """Changes the prepared spec."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self._changes = changes

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        prepared = await super().prepare(properties=properties, spec=spec, allocation=allocation, index=index)
        return msgspec.structs.replace(prepared, **self._changes)


class CannotCheckHealth(Vanilla):
    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> Any:
        raise errors.PluginError("who knows")


class CannotDrain(Vanilla):
    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        raise errors.PluginError("not yet")


ANOTHER = Attachment(id="another", type="ebs")
FLAVORS: dict[str, tuple[Vanilla, set[str]]] = {
    "drops tags": (Preparing(tags={}), {"prepare"}),
    "drops properties": (Preparing(properties=msgspec.Raw(b"null")), {"prepare", "field-names"}),
    "drops the logical ID": (Preparing(logical_id=None), {"prepare-pet"}),
    "names cattle": (Preparing(logical_id=LogicalID("check-1")), {"prepare-cattle"}),
    "replaces attachments": (Preparing(attachments=(ANOTHER,)), {"prepare-attachments"}),
    "cannot check health": (CannotCheckHealth(), {"healthy"}),
    "cannot drain": (CannotDrain(), {"drain"}),
}


@pytest.mark.parametrize("broken", FLAVORS)
async def test_a_broken_flavor_is_found(path: Path, broken: str) -> None:
    plugin, expected = FLAVORS[broken]
    assert failed(await checked(path, plugin)) == {f"flavor/{name}" for name in expected}


class ManagesMembership(Vanilla):
    """Reports the membership changes that it was created with."""

    def __init__(self, *changes: MembershipChange) -> None:
        super().__init__()
        self._membership: Any = changes

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        found: Sequence[MembershipChange] = self._membership
        return found

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        raise errors.Refused("nobody has named that")


class MembershipUnreachable(ManagesMembership):
    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        raise errors.Unreachable("there is no list to look at")


PROMOTION = MembershipChange(id="promote/1", what="a newcomer is let in")
WITHOUT_ID = msgspec.structs.replace(PROMOTION, id="")


@pytest.mark.parametrize(
    "plugin",
    [ManagesMembership(), ManagesMembership(PROMOTION), MembershipUnreachable()],
    ids=["empty", "one", "unreachable"],
)
async def test_membership_is_a_capability(path: Path, plugin: Vanilla) -> None:
    found = await checked(path, plugin)
    assert failed(found) == set()
    assert {"membership", "membership-change", "members"} <= capabilities(found)


@pytest.mark.parametrize("changes", [[PROMOTION, PROMOTION], [WITHOUT_ID]], ids=["duplicate", "empty"])
async def test_membership_changes_require_unique_ids(path: Path, changes: list[MembershipChange]) -> None:
    assert failed(await checked(path, ManagesMembership(*changes))) == {"flavor/membership"}


class ListsVoters(Vanilla):
    """Returns these voters."""

    def __init__(self, *listed: Voter) -> None:
        super().__init__()
        self._listed: Any = listed

    async def voters(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[Voter]:
        found: Sequence[Voter] = self._listed
        return found


class VotersUnreachable(ListsVoters):
    async def voters(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[Voter]:
        raise errors.Unreachable("no member has a leader")


OWN = Voter(id="1", instances=(InstanceID("check-1"),), healthy=True)


@pytest.mark.parametrize(
    "plugin", [ListsVoters(), ListsVoters(OWN, Voter(id="2")), VotersUnreachable()], ids=["none", "two", "unreachable"]
)
async def test_voters_are_a_capability(path: Path, plugin: Vanilla) -> None:
    found = await checked(path, plugin)
    assert failed(found) == set()
    assert "voters" in capabilities(found)


@pytest.mark.parametrize("voter", [Voter(id=""), Voter(id="1", instances=(InstanceID("other"),))])
async def test_voters_require_an_id_and_instances_of_the_request(path: Path, voter: Voter) -> None:
    assert failed(await checked(path, ListsVoters(voter))) == {"flavor/voters"}


# -- trees and groups ----------------------------------------------------------------------------------------------


class Unsorted(ReadableTree):
    async def keys(self, *, path: str) -> Sequence[str] | None:
        found = await super().keys(path=path)
        return found if found is None else list(reversed(found))


class RootHasOneName(ReadableTree):
    async def keys(self, *, path: str) -> Sequence[str] | None:
        return None if path == "." else await super().keys(path=path)


class AbsentRaises(ReadableTree):
    async def get(self, *, path: str) -> msgspec.Raw:
        if self._at(path) is None:
            raise errors.NotFound(f"there is no {path}")
        return await super().get(path=path)


class WritesAtOnce(Tree):
    async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
        proposal = await super().changes(changes=changes)
        await self.commit(proposed=proposal.proposed, cas=proposal.cas)
        return proposal


class IgnoresCas(Tree):
    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        self.values = msgspec.json.decode(proposed)


class CommitsNothing(Tree):
    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        if cas == "wrong":
            raise errors.Conflict("cas mismatch")


class PretendCommits(Controller):
    async def commit_group(self, *, spec: GroupSpec, pretend: bool = False) -> str:
        return await super().commit_group(spec=spec)


class AcceptsUnknownGroups(Controller):
    def _check_exists(self, group: GroupID) -> None:
        pass


class ReplacesWithoutChange(Controller):
    async def commit_group(self, *, spec: GroupSpec, pretend: bool = False) -> str:
        if not pretend:
            self.instances = [Description(id=InstanceID("i-3")), Description(id=InstanceID("i-4"))]
        return await super().commit_group(spec=spec, pretend=pretend)


class CannotDescribe(Controller):
    async def describe_group(self, *, id: GroupID) -> GroupDescription:  # noqa: A002
        if id == WEB:
            raise errors.PluginError("not yet")
        return await super().describe_group(id=id)


OTHERS: dict[type[object], set[str]] = {
    Unsorted: {"metadata/keys"},
    RootHasOneName: {"metadata/keys"},
    AbsentRaises: {"metadata/absent"},
    WritesAtOnce: {"updatable/changes", "updatable/commit"},
    IgnoresCas: {"updatable/wrong-cas", "updatable/commit"},
    CommitsNothing: {"updatable/commit"},
    PretendCommits: {"group/pretend"},
    AcceptsUnknownGroups: {"group/unknown", "group/unknown-write"},
    ReplacesWithoutChange: {"group/same-again"},
    CannotDescribe: {"group/describe", "group/same-again"},
}


@pytest.mark.parametrize("plugin", OTHERS, ids=lambda plugin: plugin.__name__)
async def test_a_broken_tree_or_controller_is_found(path: Path, plugin: type[object]) -> None:
    assert failed(await checked(path, plugin(), writes=True)) == OTHERS[plugin]


# -- wrappers ------------------------------------------------------------------------------------------------------


class Wrapped:
    """Defines the methods of `Instance`; the optional methods of the provider are only behind `__getattr__`."""

    def __init__(self, inner: Simulator) -> None:
        self._inner = inner
        for name in ("validate", "provision", "label", "destroy", "describe_instances"):
            setattr(self, name, getattr(inner, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_a_wrapper_that_hides_optional_methods_is_reported(path: Path) -> None:
    found = await checked(path, Wrapped(Simulator()))
    extensions = {each.name: each.seen for each in found if each.name.startswith("extension/") and each.seen}
    assert "extension/capable" in extensions
    assert extensions["extension/capable"] == (
        "Capable: define capabilities in class Wrapped: methods behind __getattr__ are not served"
    )
    assert failed(found) >= extensions.keys()
