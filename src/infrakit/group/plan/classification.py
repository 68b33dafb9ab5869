"""Classifies the members in one pass. Every step of the planner uses this result instead of counting again."""

import msgspec

from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.member import Member
from infrakit.group.state.tags import TagEvidence, evidence
from infrakit.group.state.view import GroupView
from infrakit.spi.values import BOOTSTRAP, Attachment, Health, InstanceID, LogicalID, Slot, State


class Classification(msgspec.Struct, kw_only=True):
    """Members by class. A member is in exactly one of leaving, missing, ready, unhealthy, unknown."""

    leaving: list[Member] = msgspec.field(default_factory=list)  # being destroyed; it still holds its slot
    # Not listed, termination not confirmed; it still holds its slot.
    missing: list[Member] = msgspec.field(default_factory=list)
    ready: list[Member] = msgspec.field(default_factory=list)  # proven healthy, or finished on purpose
    unhealthy: list[Member] = msgspec.field(default_factory=list)  # unhealthy, past its boot grace
    unknown: list[Member] = msgspec.field(default_factory=list)  # no verdict (yet)
    replaceable: list[Member] = msgspec.field(default_factory=list)  # of the unhealthy: UnhealthyAfter is over
    outdated: list[Member] = msgspec.field(default_factory=list)  # of all but the leaving: of another version
    relabel: list[Member] = msgspec.field(default_factory=list)  # of all but the leaving: bootstrap members to adopt
    # Of all but the leaving: of another version, made from what is declared. They count as of the declared version.
    adopted: list[Member] = msgspec.field(default_factory=list)
    # Of all but the leaving: of a version that is not known, because the provider does not keep tags.
    unversioned: list[Member] = msgspec.field(default_factory=list)
    tags: TagEvidence = msgspec.field(default_factory=TagEvidence)
    # Those of the declared version that lack declared attachments: never ready.
    unattached: dict[InstanceID, tuple[Attachment, ...]] = msgspec.field(default_factory=dict)
    settling: int = 0  # number of the ready that are new, and not healthy for Settle yet
    by_slot: dict[Slot, list[Member]] = msgspec.field(default_factory=dict)
    # Logical IDs that members are listed with which are other pets, by earlier listings: one of the two may be wrong.
    disputed: dict[Slot, Member] = msgspec.field(default_factory=dict)
    next_check: float = float("inf")  # loop time at which the classification may change without an event

    @property
    def staying(self) -> int:
        return len(self.missing) + len(self.ready) + len(self.unhealthy) + len(self.unknown)


def classify(want: DesiredState, view: GroupView) -> Classification:
    """Classify the members of a view."""
    classified = Classification()
    now, grace_s, after_s, settle_s = view.now, want.boot_grace_s, want.unhealthy_after_s, want.settle_s
    version = want.group.hash
    rolling = view.rolling_to == version or want.is_unproven  # the latter is known after a failover, too
    for member in view.members.values():
        if member.slot is not None:
            classified.by_slot.setdefault(member.slot, []).append(member)
        if view.pets:
            classified.disputed |= {Slot(each): member for each in member.names if each != member.logical_id}
        if member.leaving or member.state is State.STOPPING:
            classified.leaving.append(member)
            continue
        _classify_version(classified, want, member)
        if member.missing_since is not None:
            classified.missing.append(member)
            classified.next_check = min(classified.next_check, max(now, member.missing_since + view.lag_s) + 1.0)
        elif member.state is State.FINISHED:
            classified.ready.append(member)
        else:
            if view.attachments and (lacking := unattached(want, view, member)):
                classified.unattached[member.id] = lacking
            _classify_health(classified, member, now=now, grace_s=grace_s, after_s=after_s)
            settled_at = (member.healthy_since or 0.0) + settle_s
            new = rolling and member.hash == version and member.id not in classified.unattached
            if new and member.healthy_since is not None and now < settled_at:
                classified.settling += 1
                classified.next_check = min(classified.next_check, settled_at)
    classified.tags = evidence(view)
    if classified.tags.broken or view.tags_broken:
        classified.unversioned += classified.outdated
        classified.outdated = []
    return classified


def _classify_version(classified: Classification, want: DesiredState, member: Member) -> None:
    if member.hash == BOOTSTRAP:
        classified.relabel.append(member)
    elif member.hash == want.group.hash:
        return
    elif want.is_current(member):
        classified.adopted.append(member)
    elif not member.hash and member.token is not None:  # both are set in one step, so a tag was dropped
        classified.unversioned.append(member)
    else:
        classified.outdated.append(member)


def unattached(want: DesiredState, view: GroupView, member: Member) -> tuple[Attachment, ...]:
    """Return the declared attachments that a member lacks; none if it is out of date, and may need others."""
    if member.logical_id is None or not want.is_current(member):
        return ()
    return member.lacks(view.attachments.get(member.logical_id, ()))


def _classify_health(classified: Classification, member: Member, *, now: float, grace_s: float, after_s: float) -> None:
    health = member.health(now)
    if health is Health.HEALTHY:
        (classified.unknown if member.id in classified.unattached else classified.ready).append(member)
        return
    if health is Health.UNKNOWN or member.unhealthy_since is None:
        classified.unknown.append(member)
        return
    grace_ends_at = member.grace_ends_at(grace_s)
    if now < grace_ends_at:
        classified.unknown.append(member)
        classified.next_check = min(classified.next_check, grace_ends_at)
        return
    classified.unhealthy.append(member)
    replaceable_at = max(member.unhealthy_since, grace_ends_at) + after_s  # a verdict within the grace does not count
    if now >= replaceable_at:
        classified.replaceable.append(member)
    else:
        classified.next_check = min(classified.next_check, replaceable_at)


def holders(classified: Classification, logical_id: LogicalID) -> list[Member]:
    """Return all members with a logical ID, including leaving and missing ones."""
    return classified.by_slot.get(Slot(logical_id), [])
