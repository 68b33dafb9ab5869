"""Operators' commands as changes of the record; each is applied by a single compare-and-swap."""

from collections.abc import Mapping

import msgspec

from infrakit.group.orders import Eviction, Orders, RolloutStop
from infrakit.manager.declaration.record import DeclarationRecord, RecordChange, with_group, with_orders, without_group
from infrakit.spi import errors
from infrakit.spi.group import Group
from infrakit.spi.manager import Halt
from infrakit.spi.values import GroupID, InstanceID, LogicalID, Slot

EVICTIONS_MAX = 200  # of a group at a time


def declare(groups: tuple[Group, ...]) -> RecordChange:
    """Declare these groups; other groups are unchanged."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        for group in groups:
            _same_provider(record, group)
            record = with_group(record, group)
        return record

    return change


def _same_provider(record: DeclarationRecord, group: Group) -> None:
    old = record.groups.get(group.name)
    if old is None or old.properties.instance.plugin == group.properties.instance.plugin:
        return
    raise errors.Refused(
        f"group {group.name} is on {old.properties.instance.plugin} and cannot move to "
        f"{group.properties.instance.plugin}: its instances would be left behind",
        remedy=f"destroy or free the group first: infrakit group destroy {group.name}",
    )


def scale(group: GroupID, size: int) -> RecordChange:
    """Change the size of a group; this starts no rolling update."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        old = record.group(group)
        if old.is_pets:
            raise errors.Refused(
                f"group {group} has logical IDs and no size", remedy="add or remove logical IDs in its declaration"
            )
        if not 0 <= size <= 100_000:
            raise errors.invalid("SIZE", f"{size} is not a size: 0 to 100000")
        return with_group(record, _with_allocation(old, size=size))

    return change


def _with_allocation(group: Group, **allocation: object) -> Group:
    declared = msgspec.structs.replace(group.properties.allocation, **allocation)
    return msgspec.structs.replace(group, properties=msgspec.structs.replace(group.properties, allocation=declared))


def halt(group: GroupID | None, command: Halt | None) -> RecordChange:
    """Halt one group, or all with `group` None; unhalt with `command` None."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        if group is None:
            return msgspec.structs.replace(record, halt=command)
        if command is None and record.halt is not None and record.orders.get(group, Orders()).halt is None:
            raise errors.Refused(
                f"{group} is not halted by itself: everything is, by {record.halt.who} ({record.halt.why})",
                remedy="lift that halt: infrakit unhalt",
            )
        return with_orders(record, group, halt=command)

    return change


def stop_rollout(
    group: GroupID, version: str, *, aborted: bool, who: str, when: str, why: str, failed: bool = False
) -> RecordChange:
    """Pause or abort the rolling update to a version (empty: the declared one), which may have failed."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        declared = record.group(group).hash
        if version not in ("", declared):
            return record  # another version was declared meanwhile
        before = record.orders_of(group).roll
        has_failed = failed or (before is not None and before.hash == declared and before.failed)
        stop = RolloutStop(hash=declared, aborted=aborted, failed=has_failed, who=who, when=when, why=why)
        if failed and before is not None and before.hash == declared:  # an operator's command stays in effect
            stop = msgspec.structs.replace(before, failed=True)
        return with_orders(record, group, roll=stop)

    return change


def resume(group: GroupID, despite_unhealthy: Mapping[InstanceID, str], when: str) -> RecordChange:
    """Resume a paused or aborted rollout, retry failures, and allow `despite_unhealthy` to be replaced.

    `despite_unhealthy` has the incarnation of each instance.
    """

    def change(record: DeclarationRecord) -> DeclarationRecord:
        named, incarnations = tuple(despite_unhealthy), dict(despite_unhealthy)
        return with_orders(record, group, roll=None, despite_unhealthy=named, incarnations=incarnations, resumed=when)

    return change


def rollback(group: GroupID, version: str = "") -> RecordChange:
    """Declare the previous version again.

    With `version`, it is an automatic rollback: it applies only while that version is declared, and never to a group
    whose destruction an operator has requested, or whose rolling update an operator has stopped. It returns to the last
    proven version: the previous one may have failed, too.
    """

    def change(record: DeclarationRecord) -> DeclarationRecord:
        declared, previous = record.group(group), record.previous.get(group)
        if version and (version != declared.hash or _is_stopped(record.orders_of(group), version)):
            return record
        proven = record.proven.get(group) if version else None
        if proven is not None:
            return record if proven.hash == declared.hash else _restored(record, declared, proven, revoke=False)
        if previous is None:
            raise errors.Refused(f"group {group} has no earlier version", remedy="see: infrakit history")
        if record.orders.get(group, Orders()).restored == declared.hash:
            raise errors.Refused(
                f"group {group} was rolled back already: a second rollback would restore what was rolled back",
                remedy="commit the wanted version, or infrakit restore VERSION",
            )
        return _restored(record, declared, previous, revoke=not version)

    return change


def _restored(record: DeclarationRecord, declared: Group, version: Group, *, revoke: bool) -> DeclarationRecord:
    """Declare what instances of an earlier version are created from; everything else stays as it is declared."""
    restored = with_group(record, declared.made_from(version), revoke=revoke)
    return with_orders(restored, declared.name, restored=version.hash)


def _is_stopped(orders: Orders, version: str) -> bool:
    """Whether an operator has requested the destruction, or stopped the rolling update to that version."""
    return orders.destroying is not None or (orders.roll is not None and orders.roll.hash == version)


def prove(group: GroupID, version: str) -> RecordChange:
    """Record that every member of a group is of that version and proven healthy, if it is still the declared one."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        declared, proven = record.groups.get(group), record.proven.get(group)
        if declared is None or declared.hash != version or (proven is not None and proven.hash == version):
            return record
        return msgspec.structs.replace(record, proven=record.proven | {group: declared})

    return change


def free(group: GroupID) -> RecordChange:
    """Stop managing a group; its instances keep running."""
    return lambda record: without_group(record, group)


def destroy(group: GroupID, command: Halt, *, volumes: bool) -> RecordChange:
    """Destroy all instances of a group, then remove it; with `volumes`, delete its volumes too."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        return with_orders(record, group, destroying=command, volumes=volumes)

    return change


def destroyed(group: GroupID) -> RecordChange:
    """Remove a destroyed group from the declaration, unless it was declared again meanwhile."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        orders = record.orders.get(group, Orders())
        return without_group(record, group) if group in record.groups and orders.destroying is not None else record

    return change


def evict(
    group: GroupID,
    instances: dict[InstanceID, Slot | None],
    eviction: Eviction,
    *,
    replace: bool,
    incarnations: Mapping[InstanceID, str] | None = None,
    is_quorum: bool = False,
) -> RecordChange:
    """Destroy named instances; without replacement, the declaration shrinks by them in the same change.

    A quorum is never emptied by that: its last members leave with the destruction of the whole group.
    """
    named = {i: msgspec.structs.replace(eviction, incarnation=(incarnations or {}).get(i, "")) for i in instances}

    def change(record: DeclarationRecord) -> DeclarationRecord:
        old, orders = record.group(group), record.orders.get(group, Orders())
        evictions = {**orders.evictions, **named}
        if len(evictions) > EVICTIONS_MAX:
            unfinished = len(evictions) - len(named)
            raise errors.Refused(
                f"{len(named)} instances of {group} are named, and {unfinished} others are being destroyed: "
                f"at most {EVICTIONS_MAX} at a time",
                remedy="name fewer, or wait until the others have terminated",
            )
        if not replace:
            shrunk = _shrunk(old, instances)
            if is_quorum and shrunk != old and not any(msgspec.structs.astuple(shrunk.properties.allocation)):
                field = "Allocation.LogicalIDs" if old.is_pets else "Allocation.Size"
                raise errors.Refused(
                    f"without {', '.join(instances)}, {group}.{field} would be empty, and the group is a quorum",
                    remedy=f"to destroy the group: infrakit group destroy {group}",
                )
            record = with_group(record, shrunk, revoke=False)
        return with_orders(record, group, evictions=evictions)

    return change


def evicted(group: GroupID, done: Mapping[InstanceID, Eviction]) -> RecordChange:
    """Remove commands to destroy instances that have terminated, unless they were given again meanwhile."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        if group not in record.groups:
            return record
        orders = record.orders_of(group)
        return with_orders(record, group, evictions={i: e for i, e in orders.evictions.items() if done.get(i) != e})

    return change


def recovered(group: GroupID, done: Mapping[InstanceID, str]) -> RecordChange:
    """Remove the override of MaxUnhealthy for instances, unless it was given for another incarnation."""

    def change(record: DeclarationRecord) -> DeclarationRecord:
        if group not in record.groups:
            return record
        before = record.orders.get(group, Orders())
        kept = [i for i in before.despite_unhealthy if i not in done or done[i] != before.incarnations.get(i, "")]
        incarnations = {i: each for i, each in before.incarnations.items() if i in kept}
        return with_orders(record, group, despite_unhealthy=tuple(kept), incarnations=incarnations)

    return change


def _shrunk(group: Group, instances: dict[InstanceID, Slot | None]) -> Group:
    allocation = group.properties.allocation
    if allocation.logical_ids is not None:
        leaving = {LogicalID(slot) for slot in instances.values() if slot is not None}
        kept = tuple(i for i in allocation.logical_ids if i not in leaving)
        return _with_allocation(group, logical_ids=kept)
    size = allocation.size or 0
    if size < len(instances):
        raise errors.Refused(f"group {group.name} has size {size}: it cannot shrink by {len(instances)}")
    return _with_allocation(group, size=size - len(instances))
