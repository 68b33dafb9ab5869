"""Plugins that break one rule each: exactly the check of that rule fails, and what they made is gone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.conformance import LEFT
from infrakit.conformance.made import CASE
from infrakit.flavors.vanilla import Vanilla
from infrakit.instances.simulator import Simulator
from infrakit.spi import errors
from infrakit.spi.flavor import MembershipChange
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
from tests.integration.conformance.good import WEB, Controller, Leaves, Tree

# -- instances -----------------------------------------------------------------------------------------------------


class ForgetsTags(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = {name: value for name, value in (spec.tags or {}).items() if name != "size"}
        return await super().provision(spec=msgspec.structs.replace(spec, tags=tags))


class AnyTag(Simulator):
    """Lists what carries one of the tags."""

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        everything = await super().describe_instances(tags={})
        return [d for d in everything if not tags or tags.items() & (d.tags or {}).items()]


class LacksMatches(Simulator):
    """As some of the original's: an instance that lacks a tag matches it."""

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
    """The same instance twice, when more than its ID is asked for."""

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


class EndsAnother(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        try:
            await super().destroy(instance=instance, context=context)
        except errors.NotFound:
            for other in await self.describe_instances(tags={}):
                await super().destroy(instance=other.id, context=context)


class WantsReasons(Simulator):
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
        made = await super().provision(spec=spec)
        case = (spec.tags or {}).get(CASE)
        alike = [machine.id for machine in self.live() if (machine.tags or {}).get(CASE) == case]
        return made if len(alike) < 4 else alike[0]


class Latin(Simulator):
    """Knows one alphabet in scripts."""

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        if not spec.init.isascii():
            raise errors.Refused("ASCII, please")
        return await super().provision(spec=spec)


class ValidatesByTrying(Simulator):
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
    AnyTag: {"tags-and"},
    LacksMatches: {"tags-and"},
    ForgetsLogicalID: {"logical-id"},
    InventsLogicalID: {"no-logical-id"},
    ListsTwice: {"describe-properties", "init"},
    ReplacesLabels: {"label"},
    AcceptsUnknown: {"unknown-instance"},
    Doubles: {"describe-after-provision", "concurrency"},
    EndsAnother: {"destroy-twice"},
    WantsReasons: {"destroy-reasons"},
    RefusesEmptyQuery: {"validate", "no-tags", "wrong-params"},
    SameIDs: {"concurrency"},
    Latin: {"init"},
    ValidatesByTrying: {"validate"},
}


@pytest.mark.parametrize("plugin", BROKEN, ids=lambda plugin: plugin.__name__)
async def test_a_broken_rule_is_found(path: Path, plugin: type[Simulator]) -> None:
    simulator = plugin()
    found = await checked(path, simulator)
    assert failed(found) == {f"instance/{name}" for name in BROKEN[plugin]}
    assert [machine for machine in simulator.live() if machine.tags] == []


async def test_what_a_provider_does_not_have_is_skipped(path: Path) -> None:
    found = await checked(path, RefusesAttachments())
    assert failed(found) == set()
    assert skipped(found) == {"instance/attachments", "instance/logical-id"}
    (volumes,) = [o for o in found if o.name == "instance/attachments"]
    assert "there are no volumes here" in volumes.seen


class NeverEnds(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        pass


class RefusesToEnd(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        raise errors.Refused("never")


@pytest.mark.parametrize("plugin", [NeverEnds(), RefusesToEnd()], ids=lambda plugin: type(plugin).__name__)
async def test_what_remains_is_told(path: Path, plugin: Simulator) -> None:
    found = await checked(path, plugin)
    assert {"instance/destroy", LEFT} <= failed(found)
    (left,) = [o for o in found if o.name == LEFT]
    assert set(left.seen.split(", ")) == {machine.id for machine in plugin.live()}


# -- capabilities --------------------------------------------------------------------------------------------------


class IgnoresTokens(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = {name: value for name, value in (spec.tags or {}).items() if name != TAG_TOKEN}
        made = await super().provision(spec=msgspec.structs.replace(spec, tags=tags))
        await self.label(instance=made, labels=spec.tags or {})
        return made


class DoublesTokens(IgnoresTokens):
    """Answers the instance of the token, after having made another."""

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        made = await super().provision(spec=spec)
        token = (spec.tags or {}).get(TAG_TOKEN)
        bearers = [m.id for m in self.live() if token and (m.tags or {}).get(TAG_TOKEN) == token]
        return min(bearers, default=made)


@pytest.mark.parametrize("plugin", [IgnoresTokens(), DoublesTokens()], ids=lambda plugin: type(plugin).__name__)
async def test_tokens_are_a_capability_and_no_failure(path: Path, plugin: Simulator) -> None:
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
    """Changes what it has prepared."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self._changes = changes

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        prepared = await super().prepare(properties=properties, spec=spec, allocation=allocation, index=index)
        return msgspec.structs.replace(prepared, **self._changes)


class CannotTell(Vanilla):
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
    "cannot judge": (CannotTell(), {"healthy"}),
    "cannot drain": (CannotDrain(), {"drain"}),
}


@pytest.mark.parametrize("broken", FLAVORS)
async def test_a_broken_flavor_is_found(path: Path, broken: str) -> None:
    plugin, expected = FLAVORS[broken]
    assert failed(await checked(path, plugin)) == {f"flavor/{name}" for name in expected}


class KeepsList(Vanilla):
    """Names what it was made with."""

    def __init__(self, *needs: MembershipChange) -> None:
        super().__init__()
        self._needs: Any = needs

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        found: Sequence[MembershipChange] = self._needs
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


class SeesNoList(KeepsList):
    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        raise errors.Unreachable("there is no list to look at")


NEED = MembershipChange(id="promote/1", what="a newcomer is let in")
NAMELESS = msgspec.structs.replace(NEED, id="")


@pytest.mark.parametrize("plugin", [KeepsList(), KeepsList(NEED), SeesNoList()], ids=["empty", "one", "unseen"])
async def test_a_list_of_members_is_a_capability(path: Path, plugin: Vanilla) -> None:
    found = await checked(path, plugin)
    assert failed(found) == set()
    assert {"membership", "membership-change", "members"} <= capabilities(found)


@pytest.mark.parametrize("needs", [[NEED, NEED], [NAMELESS]], ids=["twice", "nameless"])
async def test_needs_are_told_apart(path: Path, needs: list[MembershipChange]) -> None:
    assert failed(await checked(path, KeepsList(*needs))) == {"flavor/membership"}


# -- trees and groups ----------------------------------------------------------------------------------------------


class Unsorted(Leaves):
    async def keys(self, *, path: str) -> Sequence[str] | None:
        found = await super().keys(path=path)
        return found if found is None else list(reversed(found))


class RootHasOneName(Leaves):
    async def keys(self, *, path: str) -> Sequence[str] | None:
        return None if path == "." else await super().keys(path=path)


class AbsentIsWrong(Leaves):
    async def get(self, *, path: str) -> msgspec.Raw:
        if self._at(path) is None:
            raise errors.NotFound(f"there is no {path}")
        return await super().get(path=path)


class WritesAtOnce(Tree):
    async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
        proposal = await super().changes(changes=changes)
        await self.commit(proposed=proposal.proposed, cas=proposal.cas)
        return proposal


class ProvesNothing(Tree):
    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        self.values = msgspec.json.decode(proposed)


class WritesNothing(Tree):
    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        if cas == "wrong":
            raise errors.Conflict("cas mismatch")


class PretendsInEarnest(Controller):
    async def commit_group(self, *, spec: GroupSpec, pretend: bool = False) -> str:
        return await super().commit_group(spec=spec)


class KnowsAll(Controller):
    def _known(self, group: GroupID) -> None:
        pass


class RollsForNothing(Controller):
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
    AbsentIsWrong: {"metadata/absent"},
    WritesAtOnce: {"updatable/changes", "updatable/commit"},
    ProvesNothing: {"updatable/wrong-cas", "updatable/commit"},
    WritesNothing: {"updatable/commit"},
    PretendsInEarnest: {"group/pretend"},
    KnowsAll: {"group/unknown", "group/unknown-write"},
    RollsForNothing: {"group/same-again"},
    CannotDescribe: {"group/describe", "group/same-again"},
}


@pytest.mark.parametrize("plugin", OTHERS, ids=lambda plugin: plugin.__name__)
async def test_a_broken_tree_or_controller_is_found(path: Path, plugin: type[object]) -> None:
    assert failed(await checked(path, plugin(), writes=True)) == OTHERS[plugin]


# -- wrappers ------------------------------------------------------------------------------------------------------


class Wrapped:
    """Defines what an instance plugin must have; what else the provider can do is behind `__getattr__`."""

    def __init__(self, inner: Simulator) -> None:
        self._inner = inner
        for name in ("validate", "provision", "label", "destroy", "describe_instances"):
            setattr(self, name, getattr(inner, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_a_wrapper_that_hides_methods_is_named(path: Path) -> None:
    found = await checked(path, Wrapped(Simulator()))
    extensions = {each.name: each.seen for each in found if each.name.startswith("extension/") and each.seen}
    assert "extension/capable" in extensions
    assert extensions["extension/capable"] == (
        "Capable: define capabilities in class Wrapped: methods behind __getattr__ are not served"
    )
    assert failed(found) >= extensions.keys()
