"""The flavor's member list: new members are added, terminated ones removed, one change at a time.

A change of a quorum's list and a destruction in the same group never happen at the same time: what the flavor counts
when it agrees to the one, the other would take away (law 5). The list goes first, because a list that is right bears
the loss of a member better; a change that fails is backed off, and so delays a destruction for one try at the most.
Creations do not matter. When a member has died and its volume is lost, its successor joins as a newcomer, and the list
has to be changed while the group is not whole: that is what makes it whole again.

The breaker does not count here: no live member is destroyed, and the flavor checks again before it changes anything.
"""

from infrakit.group.actions import ChangeMembership, Priority
from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.member import Leaving, Member
from infrakit.group.state.view import REPEAT_S, GroupView
from infrakit.spi.flavor import MembershipChange

_KEY = "membership "  # before the failures of changes, among those of slots and instances


def keep(builder: PlanBuilder) -> None:
    """Take the first change that is due and may be made; every other is recorded with the reason why not."""
    view, membership = builder.view, builder.view.membership
    if membership is None:
        return
    if membership.problem:
        why = f"the state of its member list is unknown: {membership.problem}"
        builder.block(view.group, why, "unknown-is-not-acted-on", key="list")
    if not membership.fresh(view.now):
        return
    for change in membership.needs:
        if not change.due:
            builder.block(_subject(builder, change), change.what, "membership", key=change.id)
        elif builder.changing is not None and change.id == builder.changing.id:
            continue  # it is under way
        elif why := _why_not(builder):
            builder.block(_subject(builder, change), f"{change.what}: {why}", "one-at-a-time", key=change.id)
        elif not builder.backs_off(key(change), change.what, subject=_subject(builder, change), key=change.id):
            _take(builder, change)


def is_settled(builder: PlanBuilder) -> bool:
    """Nothing is due and nothing under way, proven by a poll of the list; true where there is no list."""
    membership = builder.view.membership
    if membership is None:
        return True
    seen = membership.fresh(builder.view.now) and membership.asked_at >= membership.changed_at
    return seen and membership.changing is None and not any(need.due for need in membership.needs)


def _take(builder: PlanBuilder, change: MembershipChange) -> None:
    builder.changing = change
    builder.actions.append(
        ChangeMembership(
            on=_subject(builder, change),
            change=change,
            reason=change.what,
            rule="membership",
            priority=Priority.QUORUM if builder.want.quorum else Priority.HEAL,
        )
    )


def _why_not(builder: PlanBuilder) -> str:
    """Why no change can be begun now, or nothing."""
    membership = builder.view.membership
    if membership is None or not membership.known(builder.view.now):
        return "the member list is polled first"
    if builder.changing is not None:
        return "another change comes first"
    leaving = in_the_way(builder.want, builder.view)
    if leaving is not None:
        return f"{leaving.id} is leaving; the member list of a quorum does not change meanwhile"
    return ""


def in_the_way(want: DesiredState, view: GroupView) -> Member | None:
    """A member of a quorum whose end must be over before the list may be changed.

    Where an end was ordered long ago and drags on, the flavor knows as well as we do what is left.
    """
    if not want.quorum:
        return None
    lately = view.now - view.lag_s - REPEAT_S
    members = view.members.values()
    return next(
        (m for m in members if m.leaving in (Leaving.DRAINING, Leaving.DESTROYING) or m.left_at >= lately), None
    )


def key(change: MembershipChange) -> str:
    """Under which a view remembers failures."""
    return _KEY + change.id


def is_key(backoff: str) -> bool:
    """Whether a failure is that of a change."""
    return backoff.startswith(_KEY)


def _subject(builder: PlanBuilder, change: MembershipChange) -> str:
    """The instance that it is about while it is a member, else the group."""
    return builder.view.group if change.instance not in builder.view.members else str(change.instance)
