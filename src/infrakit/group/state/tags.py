"""What listings show of the versions of members, compared with those that this controller has set or knew before."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from infrakit.group.actions import Blocked
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.spi.values import Slot

RULE = "tags"
BROKEN = "broken"  # key of the blocked action


class TagEvidence(msgspec.Struct, kw_only=True):
    """What listings show of the versions that this controller has set, and of those that it knew before."""

    kept: bool = False  # a version that this controller has set is listed
    awaited: bool = False  # one is not listed yet, within the lag that the provider promises
    broken: list[Member] = msgspec.field(default_factory=list)  # one is not listed, although the lag is over
    unlabelled: list[Member] = msgspec.field(default_factory=list)  # of these, a label had no effect
    changed: list[Member] = msgspec.field(default_factory=list)  # set by another leader, and changed since
    unnamed: list[Member] = msgspec.field(default_factory=list)  # pets that are listed without their logical ID


def evidence(view: GroupView) -> TagEvidence:
    """Collect the evidence from all members."""
    found = TagEvidence()
    observed_at = view.observed_at if view.observed_at is not None else -math.inf
    for member in view.members.values():
        if member.identified_by and not member.leaving:
            found.unnamed.append(member)
        own = member.hash_set_at < math.inf
        if member.listed_hash in (None, member.hash):
            found.kept = found.kept or own
        elif not own:
            is_label = member.listed_hash == view.version  # of another leader
            if not is_label and observed_at >= member.seen_at + view.lag_s:
                found.changed.append(member)
        elif observed_at < member.hash_set_at + view.lag_s:
            found.awaited = True
        elif member.labelled_from == member.listed_hash:
            found.unlabelled.append(member)
        else:
            found.broken.append(member)
    return found


def remember(view: GroupView, blocked: Iterable[Blocked]) -> None:
    """Remember that the provider does not keep tags: the instances that show it may terminate."""
    for block in blocked:
        if (block.rule, block.key) == (RULE, BROKEN):
            view.tags_broken = block.reason
            view.tags_broken_by |= {member.id for member in evidence(view).broken}


def forget(view: GroupView) -> None:
    """Trust tags again, because an operator resumes the group, or because they were listed after all."""
    view.tags_broken, view.tags_broken_by = "", frozenset()


def correct(view: GroupView) -> None:
    """Trust tags again if those that were not listed within the lag are listed now: the provider is slow, no more."""
    shown = (member for each in view.tags_broken_by if (member := view.members.get(each)) is not None)
    if any(member.listed_hash == member.hash for member in shown) and not evidence(view).broken:
        forget(view)
        view.invalidate_plan()


def identify(view: GroupView) -> None:
    """Identify pets that are listed without a logical ID and a token by their volumes, if no other has the logical ID.

    A replacement beside such an instance would be a second holder of the same volume.
    """
    if not view.pets or not view.attachments:
        return
    unknown = [m for m in view.members.values() if m.slot is None and isinstance(m.description.attachments, tuple)]
    if not unknown:
        return
    taken = {member.slot for member in view.members.values()}
    created_as = {slot: creation.instance for slot, creation in view.pending.items()}
    owner = {each.id: logical_id for logical_id, held in view.attachments.items() for each in held}
    for member in unknown:
        owners = {owner[each.id] for each in member.description.attachments or () if each.id in owner}
        if len(owners) != 1 or (slot := Slot(min(owners))) in taken:
            continue
        if created_as.get(slot) in (None, member.id):  # a creation without an ID may have created this one
            taken.add(slot)
            member.recognised_as(min(owners), "its volume")


def recognise(view: GroupView, new: Sequence[Member]) -> None:
    """Record the versions of newly listed members, if their creation is pending: it was requested with a version."""
    if not new or not view.pending:
        return
    by_token = {creation.intent.token: slot for slot, creation in view.pending.items()}
    by_id = {creation.instance: slot for slot, creation in view.pending.items()}
    by_slot = {slot for slot, c in view.pending.items() if c.instance is None and c.phase is not Phase.RECORDED}
    for member in new:
        if member.token is not None:
            slot = by_token.get(member.token)
        else:
            slot = by_id.get(member.id, member.slot if member.slot in by_slot else None)
        if slot is not None:
            created(view, slot, view.pending[slot], member)


def created(view: GroupView, slot: Slot, creation: Creation, member: Member) -> None:
    """Record the version of the member of a creation. Not if an earlier call, for another version, may have made it.

    But without the token that was set with the version, a version that was not requested is no evidence. If the answer
    to the call is late, the member may have been labelled since it was listed: the label is newer.
    """
    if member.slot not in (None, slot) or member.hash_set_at < math.inf:
        return
    requested = {creation.intent.hash, creation.version, view.version} - {""}
    if creation.version and not creation.uncertain:
        member.was_created(creation.version, view.now)
    elif member.token is None and member.listed_hash not in requested:
        member.was_created(creation.intent.hash, view.now)
