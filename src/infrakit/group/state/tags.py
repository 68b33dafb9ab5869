"""What listings show of the versions of members, compared with those that this controller has set or knew before."""

import math

import msgspec

from infrakit.group.state.creation import Creation
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.spi.values import Slot


class TagEvidence(msgspec.Struct, kw_only=True):
    """What listings show of the versions that this controller has set, and of those that it knew before."""

    kept: bool = False  # a version that this controller has set is listed
    awaited: bool = False  # one is not listed yet, within the lag that the provider promises
    broken: list[Member] = msgspec.field(default_factory=list)  # one is not listed, although the lag is over
    unlabelled: list[Member] = msgspec.field(default_factory=list)  # of these, a label had no effect
    changed: list[Member] = msgspec.field(default_factory=list)  # set by another leader, and changed since


def evidence(view: GroupView) -> TagEvidence:
    """Collect the evidence from all members."""
    found = TagEvidence()
    observed_at = view.observed_at if view.observed_at is not None else -math.inf
    for member in view.members.values():
        if member.listed_hash in (None, member.hash):
            found.kept = found.kept or member.hash_set_at < math.inf
        elif member.hash_set_at == math.inf:
            found.changed.append(member)
        elif observed_at < member.hash_set_at + view.lag_s:
            found.awaited = True
        elif member.labelled_from == member.listed_hash:
            found.unlabelled.append(member)
        else:
            found.broken.append(member)
    return found


def recognise(view: GroupView, member: Member) -> None:
    """Record the version of a newly listed member, if this controller has requested its creation."""
    for slot, creation in view.pending.items():
        own = member.token == creation.intent.token if member.token else creation.instance == member.id
        if own:
            created(view, slot, creation, member)


def created(view: GroupView, slot: Slot, creation: Creation, member: Member) -> None:
    """Record the version of the member of a creation. Not if an earlier call, for another version, may have made it."""
    if creation.version and not creation.uncertain and member.slot in (None, slot):
        member.was_created(creation.version, view.now)
