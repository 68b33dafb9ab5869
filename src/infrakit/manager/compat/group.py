"""The original's Group interface, served by the manager, so that its command line and tools can manage groups."""

import json
from collections.abc import Iterable

import msgspec

from infrakit.group.controller import Controller
from infrakit.group.orders import Eviction, incarnation
from infrakit.group.plan import DesiredState
from infrakit.manager.api.manager import Operator
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.record import DeclarationRecord, RecordChange
from infrakit.manager.lead.replica import Replica
from infrakit.rpc import caller
from infrakit.spec import document
from infrakit.spi import errors
from infrakit.spi.event import timestamp
from infrakit.spi.group import Group, GroupDescription, GroupSpec
from infrakit.spi.values import GroupID, InstanceID

WHY = "requested over the wire protocol"


class GroupPlugin:
    """Satisfies `spi.group.Groups`; changes are attributed to the caller."""

    def __init__(self, replica: Replica, operator: Operator) -> None:
        self._replica = replica
        self._operator = operator

    def aliases(self) -> Iterable[str]:
        """The names of all groups: each is also addressable as an object of its own."""
        return self._replica.declaration.record.groups

    async def commit_group(self, *, spec: GroupSpec, pretend: bool = False) -> str:
        properties = msgspec.json.decode(spec.properties)
        entry = {"Plugin": "group", "Properties": {"ID": spec.id, "Properties": properties}}
        text = json.dumps([entry])
        before = self._replica.declaration.record.groups.get(spec.id)
        (after,) = await self._operator.checked(text, spec.id)
        message = f"Managing {_size(after)} instances" if before is None else await self._changes(before, after)
        command = f"declare {spec.id} in a FILE, and infrakit commit FILE"
        change = await self._operator.consented((after,), 0, command)
        if pretend:
            return f"{message}{_consent(change, self._replica.declaration.record)}"
        committed = await self._replica.change(change, what="commit", who=_who(), why=WHY)
        return "; ".join((message, *committed.notes))

    async def _changes(self, before: Group, after: Group) -> str:
        """Describe the effect of a change, in the wording of the original."""
        controller = self._controllers.get(before.name)
        members = controller.view.members.values() if controller is not None else ()
        want = await self._want(after)
        outdated, size = sum(not want.is_current(m) for m in members), _size(after)
        grown = size - _size(before)
        if grown < 0:
            updated = max(0, size - (len(members) - outdated))
            first = f"Terminating {-grown} instances to reduce the group size to {size}"
            return first + (f", then performing a rolling update on {updated} instances" if updated else "")
        parts = [f"Performing a rolling update on {outdated} instances"] if outdated else []
        if grown:
            verb = "then adding" if parts else "Adding"
            parts.append(f"{verb} {grown} instances to increase the group size to {size}")
        return ", ".join(parts) or "Noop"

    async def free_group(self, *, id: GroupID) -> None:  # noqa: A002
        self._declared(id)
        await self._operator.free(group=id, who=_who(), why=WHY)

    async def describe_group(self, *, id: GroupID) -> GroupDescription:  # noqa: A002
        self._declared(id)
        controller = self._controllers.get(id)
        if controller is None:
            return GroupDescription()
        members = sorted(controller.view.members.values(), key=lambda m: m.id)
        converged = controller.plan.converged and controller.is_current
        return GroupDescription(instances=tuple(m.description for m in members), converged=converged)

    async def destroy_group(self, *, id: GroupID) -> None:  # noqa: A002
        self._declared(id)
        await self._operator.destroy(group=id, who=_who(), why=WHY)

    async def inspect_groups(self) -> tuple[GroupSpec, ...]:
        groups = self._replica.declaration.record.groups
        return tuple(GroupSpec(id=name, properties=properties(groups[name])) for name in sorted(groups))

    async def destroy_instances(self, *, id: GroupID, instances: tuple[InstanceID, ...]) -> None:  # noqa: A002
        self._declared(id)
        controller = self._controllers.get(id)
        members = controller.view.members if controller is not None else {}
        if missing := [each for each in instances if each not in members]:
            raise errors.NotFound(f"group {id} has no instance {', '.join(missing)}: nothing was changed")
        who = _who()
        eviction = Eviction(who=who, when=timestamp(self._replica.clock.now()), why=WHY)
        slots = {each: members[each].slot for each in instances}
        incarnations = {each: incarnation(members[each].description.tags) for each in instances}
        is_quorum = controller is not None and controller.want.quorum
        change = changes.evict(id, slots, eviction, replace=False, incarnations=incarnations, is_quorum=is_quorum)
        await self._replica.change(change, what="destroy instance", who=who, why=WHY)

    async def size(self, *, id: GroupID) -> int:  # noqa: A002
        return _size(self._declared(id))

    async def set_size(self, *, id: GroupID, size: int) -> None:  # noqa: A002
        self._declared(id)
        await self._operator.scale(group=id, size=size, who=_who(), why=WHY)

    @property
    def _controllers(self) -> dict[GroupID, Controller]:
        """The running controllers. Raises `NotLeader` in the wording of the original, which its users search for."""
        term = self._replica.term
        if term is None:
            raise errors.NotLeader("not a leader", remedy="send the request to the leader")
        return term.controllers

    async def _want(self, after: Group) -> DesiredState:
        """The desired state of a group once it is committed."""
        term, record = self._replica.term, self._replica.declaration.record
        if term is None:
            raise errors.NotLeader("not a leader", remedy="send the request to the leader")
        return await term.want(after, changes.declare((after,))(record))

    def _declared(self, name: GroupID) -> Group:
        group = self._replica.declaration.record.groups.get(name)
        if group is None:
            raise errors.NotFound(f"Group '{name}' is not being watched")
        return group


def properties(group: Group) -> msgspec.Raw:
    """A group's properties in their wire form."""
    return msgspec.Raw(msgspec.json.encode(document.plain(group.properties)))


def _size(group: Group) -> int:
    allocation = group.properties.allocation
    return len(allocation.logical_ids) if allocation.logical_ids is not None else allocation.size or 0


def _consent(change: RecordChange, record: DeclarationRecord) -> str:
    """Describe why a change would be refused; empty if it would not."""
    try:
        change(record)
    except errors.Refused as refused:
        return f"; refused: {refused}"
    return ""


def _who() -> str:
    return caller.current().signed("")
