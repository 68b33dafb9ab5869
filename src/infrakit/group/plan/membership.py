"""The flavor's member list: adds new members and removes terminated ones, one change at a time.

In a group with a quorum, a change of the list and a destruction never run at the same time: the flavor counts the
members when it accepts the change, and a concurrent destruction would invalidate that count (law 5). The change goes
first, because a correct list tolerates the loss of a member better. A change that fails is backed off, so it delays a
destruction by one attempt at most. Creations do not block changes: when a member has terminated and its volume is lost,
its replacement joins as a new member, and the list must be changed while the group is incomplete.

The circuit breaker does not apply: no live member is destroyed, and the flavor checks the quorum before each change.
"""

from infrakit.group.actions import ChangeMembership, Priority
from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.member import Leaving, Member
from infrakit.group.state.view import REPEAT_S, GroupView
from infrakit.spi.flavor import MembershipChange

_KEY = "membership "  # prefix of the back-off keys of changes, which share a dictionary with slots and instances


def reconcile(builder: PlanBuilder) -> None:
    """Add the first change that is due and allowed; add all others as blocked, with the reason."""
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
            continue  # it is in progress
        elif why := _why_not(builder, change):
            builder.block(_subject(builder, change), f"{change.what}: {why}", "one-at-a-time", key=change.id)
        elif not builder.backs_off(key(change), change.what, subject=_subject(builder, change), key=change.id):
            _change(builder, change)


def is_settled(builder: PlanBuilder) -> bool:
    """Whether a poll has proven that no change is due or in progress; true if the flavor has no member list."""
    membership = builder.view.membership
    if membership is None:
        return True
    polled = membership.fresh(builder.view.now) and membership.requested_at >= membership.changed_at
    return polled and membership.changing is None and not any(need.due for need in membership.needs)


def _change(builder: PlanBuilder, change: MembershipChange) -> None:
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


def _why_not(builder: PlanBuilder, change: MembershipChange) -> str:
    """Return why a change cannot start now, or an empty string."""
    membership = builder.view.membership
    if membership is None or not membership.known(builder.view.now):
        return "the member list is polled first"
    if builder.changing is not None:
        return "another change comes first"
    others = membership.unsettled.keys() - {change.id}  # the flavor checks the list first, so the same one may retry
    if others:
        return f"the change {min(others)} may still take effect, or is not polled yet"
    leaving = blocking_member(builder.want, builder.view)
    if leaving is not None:
        return f"{leaving.id} is leaving; the member list of a quorum does not change meanwhile"
    return ""


def blocking_member(want: DesiredState, view: GroupView) -> Member | None:
    """Return a member of a quorum whose destruction must complete before the list may be changed, or None.

    A destruction that was acknowledged longer ago than the lag and `REPEAT_S` does not block: the flavor itself counts
    the remaining members.
    """
    if not want.quorum:
        return None
    recent = view.now - view.lag_s - REPEAT_S
    members = view.members.values()
    return next(
        (m for m in members if m.leaving in (Leaving.DRAINING, Leaving.DESTROYING) or m.left_at >= recent), None
    )


def key(change: MembershipChange) -> str:
    """Return the back-off key of a change."""
    return _KEY + change.id


def _subject(builder: PlanBuilder, change: MembershipChange) -> str:
    """Return the instance concerned if it is a member, else the group."""
    return builder.view.group if change.instance not in builder.view.members else str(change.instance)
