"""One pass over the members: who they are to this plan. Every part of the plan reads it; none counts for itself."""

import msgspec

from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.spi.values import BOOTSTRAP, Health, LogicalID, Slot, State


class Classification(msgspec.Struct, kw_only=True):
    """Members by what they are. A member is in exactly one of leaving, missing, finished, ready, ailing, doubtful."""

    leaving: list[Member] = msgspec.field(default_factory=list)  # being destroyed; it still holds its slot
    missing: list[Member] = msgspec.field(
        default_factory=list
    )  # not listed, termination not confirmed; it still holds its slot
    ready: list[Member] = msgspec.field(default_factory=list)  # proven healthy, or finished on purpose
    ailing: list[Member] = msgspec.field(default_factory=list)  # unhealthy, past its boot grace
    doubtful: list[Member] = msgspec.field(default_factory=list)  # no verdict (yet)
    sick: list[Member] = msgspec.field(default_factory=list)  # of the ailing: for so long that it is to be replaced
    outdated: list[Member] = msgspec.field(default_factory=list)  # of those that stay: made from another version
    relabel: list[Member] = msgspec.field(default_factory=list)  # of those that stay: to adopt as up to date
    unsettled: int = 0  # of the ready: new ones that have not been healthy for long enough
    by_slot: dict[Slot, list[Member]] = msgspec.field(default_factory=dict)
    next_look: float = float("inf")  # when time alone changes something of this

    @property
    def staying(self) -> int:
        return len(self.missing) + len(self.ready) + len(self.ailing) + len(self.doubtful)


def classify(want: DesiredState, view: GroupView) -> Classification:
    """Sort the members of a view."""
    classified = Classification()
    now, grace_s, after_s, settle_s = view.now, want.boot_grace_s, want.unhealthy_after_s, want.settle_s
    version = want.group.hash
    rolling = view.rolling_to == version
    for member in view.members.values():
        if member.slot is not None:
            classified.by_slot.setdefault(member.slot, []).append(member)
        if member.leaving or member.state is State.STOPPING:
            classified.leaving.append(member)
            continue
        if member.hash == BOOTSTRAP:
            classified.relabel.append(member)
        elif member.hash != version:
            classified.outdated.append(member)
        if member.missing_since is not None:
            classified.missing.append(member)
            classified.next_look = min(classified.next_look, max(now, member.missing_since + view.lag_s) + 1.0)
        elif member.state is State.FINISHED:
            classified.ready.append(member)
        else:
            _classify_health(classified, member, now=now, grace_s=grace_s, after_s=after_s)
            settled_at = (member.healthy_since or 0.0) + settle_s
            if rolling and member.healthy_since is not None and member.hash == version and now < settled_at:
                classified.unsettled += 1
                classified.next_look = min(classified.next_look, settled_at)
    return classified


def _classify_health(classified: Classification, member: Member, *, now: float, grace_s: float, after_s: float) -> None:
    health = member.health(now)
    if health is Health.HEALTHY:
        classified.ready.append(member)
        return
    if health is Health.UNKNOWN or member.unhealthy_since is None:
        classified.doubtful.append(member)
        return
    if now < member.born_at + grace_s and member.healthy_since is None:
        classified.doubtful.append(member)
        classified.next_look = min(classified.next_look, member.born_at + grace_s)
        return
    classified.ailing.append(member)
    if now >= member.unhealthy_since + after_s:
        classified.sick.append(member)
    else:
        classified.next_look = min(classified.next_look, member.unhealthy_since + after_s)


def bearers(classified: Classification, logical_id: LogicalID) -> list[Member]:
    """Everything that bears a logical ID, also what is leaving or missing."""
    return classified.by_slot.get(Slot(logical_id), [])
