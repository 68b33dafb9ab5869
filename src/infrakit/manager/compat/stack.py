"""The original's Stack and Controller interfaces, served by the manager: the declared groups as specs and objects."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from infrakit.manager.api.roster import Roster
from infrakit.manager.compat.group import GroupPlugin, properties
from infrakit.manager.lead.replica import Replica
from infrakit.spi import errors
from infrakit.spi.controller import Messages, Object, ObjectMetadata, Operation, Outcome, Spec
from infrakit.spi.group import GroupSpec
from infrakit.spi.values import GroupID

KIND = "group"
VERSION = "Group/0.1.1"


class ManagerStack:
    """Satisfies `spi.stack.Stack`."""

    def __init__(self, replica: Replica, roster: Roster) -> None:
        self._replica = replica
        self._roster = roster

    async def is_leader(self) -> bool:
        return self._replica.active.is_set()

    async def leader_location(self) -> Mapping[str, Any] | None:
        """The parts of the leader's URL; None if no replica leads, or its address is unknown."""
        address = await self._roster.address((await self._replica.peek()).leader)
        if not address:
            return None
        parts = urlsplit(address)
        return {"Scheme": parts.scheme or "unix", "Host": parts.netloc, "Path": parts.path}

    async def specs(self) -> tuple[Spec, ...]:
        groups = self._replica.declaration.record.groups
        return tuple(
            Spec(kind=KIND, metadata=ObjectMetadata(name=name), properties=properties(groups[name]))
            for name in sorted(groups)
        )

    async def inspect(self) -> None:
        raise errors.Refused("not implemented -- coming soon", remedy="read the specs, or describe the groups")

    async def enforce(self, *, specs: tuple[Spec, ...]) -> None:
        del specs
        raise errors.Refused("not implemented -- commit to individual plugins", remedy="commit each group")

    async def terminate(self, *, specs: tuple[Spec, ...]) -> None:
        del specs
        raise errors.Refused("not implemented -- destroy via direct calls to plugins", remedy="destroy each group")


class GroupController:
    """Satisfies `spi.controller.Controller`: groups as objects of the kind `group`."""

    def __init__(self, replica: Replica, groups: GroupPlugin) -> None:
        self._replica = replica
        self._groups = groups

    def aliases(self) -> Iterable[str]:
        """The names of all groups: each is also addressable as an object of its own."""
        return self._groups.aliases()

    async def plan(self, *, operation: Operation, spec: Spec) -> Outcome:
        name = _name(spec.metadata)
        if operation is Operation.DESTROY:
            described = await self._groups.describe_group(id=name)
            message = f"Destroying {len(described.instances)} instances"
        else:
            message = await self._groups.commit_group(spec=_group(spec), pretend=True)
        return Outcome(object=_object(spec), plan=Messages(message=(message,)))

    async def commit(self, *, operation: Operation, spec: Spec) -> Outcome:
        if operation is Operation.DESTROY:
            await self._groups.destroy_group(id=_name(spec.metadata))
            return Outcome(object=_object(spec))
        await self._groups.commit_group(spec=_group(spec))
        return Outcome(object=_object(spec, state=await self._state(_name(spec.metadata))))

    async def describe(self, *, metadata: ObjectMetadata | None = None) -> tuple[Object, ...]:
        declared = self._replica.declaration.record.groups
        wanted = _name(metadata) if metadata is not None else GroupID("")
        names = [wanted] if wanted else sorted(declared)
        return tuple([await self._described(name) for name in names])

    async def free(self, *, metadata: ObjectMetadata | None = None) -> tuple[Object, ...]:
        freed = await self.describe(metadata=metadata)
        for each in freed:
            await self._groups.free_group(id=_name(each.metadata))
        return freed

    async def _described(self, name: GroupID) -> Object:
        state = await self._state(name)
        declared = self._replica.declaration.record.group(name)
        entry = ObjectMetadata(id=name, name=f"{KIND}/{name}")
        return Object(kind=KIND, version=VERSION, metadata=entry, properties=properties(declared), state=state)

    async def _state(self, name: GroupID) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(await self._groups.describe_group(id=name)))


def _name(metadata: ObjectMetadata) -> GroupID:
    """The group's name: `workers` for both `workers` and `group/workers`."""
    return GroupID(metadata.name.removeprefix(f"{KIND}/"))


def _group(spec: Spec) -> GroupSpec:
    if spec.kind.partition("/")[0] != KIND:
        raise errors.Refused(f"this controller manages groups, not {spec.kind!r}")
    return GroupSpec(id=_name(spec.metadata), properties=spec.properties)


def _object(spec: Spec, *, state: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET) -> Object:
    return Object(kind=spec.kind, version=spec.version, metadata=spec.metadata, properties=spec.properties, state=state)
