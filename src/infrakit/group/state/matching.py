"""Which instance belongs to which pending creation: decided by its token, else by the ID that the provider returned.

An ID alone is not trusted: a provider may return the ID of another instance, and two creations would count as done.
Without a token and an ID, its slot only suggests it.
"""

import math
from collections.abc import Container, Iterator, Mapping

from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Member
from infrakit.spi import values
from infrakit.spi.values import Description, GroupID, InstanceID, Slot


def is_instance_of(member: Member, slot: Slot, creation: Creation) -> bool:
    """Whether a member with the returned ID is the creation's own: it has its token or, without a token, its slot.

    A provider that has dropped both tags is believed.
    """
    if member.token is not None:
        return member.token == creation.intent.token
    return member.slot in {None, slot}


def owner(
    instance: InstanceID,
    slot: Slot,
    creation: Creation,
    members: Mapping[InstanceID, Member],
    acknowledged: Mapping[InstanceID, Slot],
) -> str:
    """Return whose ID a returned one is already; empty if it may be that of the creation's own instance."""
    member, other = members.get(instance), acknowledged.get(instance, slot)
    if member is not None and not is_instance_of(member, slot, creation):
        return member.slot or "an instance"
    return other if other != slot else ""


def is_another(inspected: Description, creation: Creation, group: GroupID) -> bool:
    """Whether an inspected instance with the returned ID is not the creation's own. A missing tag proves nothing."""
    tags = inspected.tags or {}
    if token := tags.get(values.TAG_TOKEN):
        return token != creation.intent.token
    return tags.get(values.TAG_GROUP, group) != group


def unlisted(pending: Mapping[Slot, Creation], members: Mapping[InstanceID, Member]) -> Iterator[InstanceID]:
    """Yield the IDs that were returned for creations, and that listings do not show as their instances."""
    for slot, creation in pending.items():
        if creation.phase is Phase.CREATED and creation.instance is not None:
            member = members.get(creation.instance)
            if member is None or not is_instance_of(member, slot, creation):
                yield creation.instance


def listed(creation: Creation, members: Mapping[InstanceID, Member]) -> Member | None:
    """Return the member that has the token of a creation."""
    return next((member for member in members.values() if member.token == creation.intent.token), None)


def settled(pending: Mapping[Slot, Creation], members: Mapping[InstanceID, Member]) -> dict[Slot, Member]:
    """Return the slots whose creation is resolved, because its instance is one of these members."""
    by_token = {member.token: member for member in members.values() if member.token is not None}
    found = {}
    for slot, creation in pending.items():
        member = by_token.get(creation.intent.token)
        if member is None and creation.instance is not None:
            member = members.get(creation.instance)
        if member is not None and is_instance_of(member, slot, creation):
            found[slot] = member
    return found


def presumed(
    pending: Mapping[Slot, Creation], members: Mapping[InstanceID, Member], known: Container[Slot]
) -> dict[Slot, float]:
    """Return the slots, except the known ones, that have a member without a token: the provider may have dropped it.

    With each slot, the loop time at which the creation can certainly not create another instance any more.
    """
    by_slot = {member.slot: member for member in members.values() if member.token is None}
    return {
        slot: math.inf if creation.phase is Phase.CALLING else max(by_slot[slot].listed_at, creation.ended_at)
        for slot, creation in pending.items()
        if slot in by_slot and slot not in known and creation.instance is None
    }


def overdue(
    pending: Mapping[Slot, Creation], members: Mapping[InstanceID, Member], *, listed_until: float, can_inspect: bool
) -> Iterator[Creation]:
    """Yield creations whose instance every listing would show by now: they ended before loop time `listed_until`.

    For an acknowledged creation, a listing must also show a later one, which shows that listings are updated.
    """
    proof = max((m.created_at for m in members.values() if m.missing_since is None), default=-math.inf)
    for creation in pending.values():
        unlisted = creation.phase is Phase.CREATED and not can_inspect and proof > creation.ended_at
        awaited = creation.phase is Phase.UNKNOWN or unlisted
        if awaited and not creation.presumed_absent and creation.ended_at <= listed_until:
            yield creation
