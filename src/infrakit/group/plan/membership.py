"""The list of members that a flavor keeps: newcomers are let in, the dead are taken off, one change at a time.

A change of a quorum's list and a destruction in the same group never happen at the same time: what the flavor counts
when it agrees to the one, the other would take away (law 5). The list goes first, because a list that is right bears
the loss of a member better; a change that fails is backed off, and so delays a destruction for one try at the most.
Creations do not matter. When a member has died and its volume is lost, its successor joins as a newcomer, and the list
has to be changed while the group is not whole: that is what makes it whole again.

The breaker does not count here: nothing that lives is ended, and the flavor looks again before it changes anything.
"""

from infrakit.group.actions import ChangeMembership, Priority
from infrakit.group.plan.draft import Draft, duration, times
from infrakit.group.plan.want import Want
from infrakit.group.view import REPEAT_S, GroupView, Member
from infrakit.spi.flavor import MembershipChange

_KEY = "membership "  # before the failures of changes, among those of slots and instances


def keep(draft: Draft) -> None:
    """Take the first change that is due and may be made, and say of every other why not."""
    view, membership = draft.view, draft.view.membership
    if membership is None:
        return
    if membership.problem:
        why = f"what its list of members needs is not known: {membership.problem}"
        draft.hold(view.group, why, "unknown-is-not-acted-on", key="list")
    if not membership.fresh(view.now):
        return
    for change in membership.needs:
        if not change.due:
            draft.hold(_subject(draft, change), change.what, "membership", key=change.id)
        elif draft.changing is not None and change.id == draft.changing.id:
            continue  # it is under way
        elif why := _why_not(draft):
            draft.hold(_subject(draft, change), f"{change.what}: {why}", "one-at-a-time", key=change.id)
        elif not _backed_off(draft, change):
            _take(draft, change)


def is_settled(draft: Draft) -> bool:
    """Nothing is due and nothing under way, proven by a look at the list; true where there is no list."""
    membership = draft.view.membership
    if membership is None:
        return True
    seen = membership.fresh(draft.view.now) and membership.asked_at >= membership.changed_at
    return seen and membership.changing is None and not any(need.due for need in membership.needs)


def _take(draft: Draft, change: MembershipChange) -> None:
    draft.changing = change
    draft.actions.append(
        ChangeMembership(
            on=_subject(draft, change),
            change=change,
            reason=change.what,
            rule="membership",
            priority=Priority.QUORUM if draft.want.quorum else Priority.HEAL,
        )
    )


def _why_not(draft: Draft) -> str:
    """Why no change can be begun now, or nothing."""
    membership = draft.view.membership
    if membership is None or not membership.known(draft.view.now):
        return "the list is looked at again first"
    if draft.changing is not None:
        return "another change comes first"
    leaving = in_the_way(draft.want, draft.view)
    if leaving is not None:
        return f"{leaving.id} is leaving, and the list of a quorum is not changed meanwhile"
    return ""


def in_the_way(want: Want, view: GroupView) -> Member | None:
    """A member of a quorum whose end must be over before the list may be changed.

    Where an end was ordered long ago and drags on, the flavor knows as well as we do what is left.
    """
    if not want.quorum:
        return None
    lately = view.now - view.lag_s - REPEAT_S
    members = view.members.values()
    return next((m for m in members if m.leaving in ("draining", "destroying") or m.left_at >= lately), None)


def _backed_off(draft: Draft, change: MembershipChange) -> bool:
    trouble = draft.view.troubles.get(key(change))
    if trouble is None or trouble.retry_at <= draft.view.now:
        return False
    draft.hold(
        _subject(draft, change),
        f"{change.what}: tried {times(trouble.count)} ({trouble.why}); again in "
        f"{duration(trouble.retry_at - draft.view.now)}",
        "back-off",
        until=trouble.retry_at,
        key=change.id,
    )
    return True


def key(change: MembershipChange) -> str:
    """Under which a view remembers failures."""
    return _KEY + change.id


def is_key(trouble: str) -> bool:
    """Whether a failure is that of a change."""
    return trouble.startswith(_KEY)


def _subject(draft: Draft, change: MembershipChange) -> str:
    """The instance that it is about while it is a member, else the group."""
    return draft.view.group if change.instance not in draft.view.members else str(change.instance)
