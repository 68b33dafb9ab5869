"""Which instance belongs to which pending creation: decided by its token, else by the ID that the provider returned.

An ID alone is not trusted: a provider may return the ID of another instance, and two creations would count as done.
"""

from collections.abc import Mapping

from infrakit.group.state.creation import Creation
from infrakit.group.state.member import Member
from infrakit.spi.values import InstanceID, Slot


def is_instance_of(member: Member, slot: Slot, creation: Creation) -> bool:
    """Whether a member with the returned ID is the creation's own: it has its token or, without a token, its slot.

    A provider that has dropped both tags is believed.
    """
    if member.token is not None:
        return member.token == creation.intent.token
    return member.slot in {None, slot}


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
