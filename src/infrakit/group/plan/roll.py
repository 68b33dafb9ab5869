"""Replace what was made from another version, a few at a time, each successor proven before the next is taken.

Order: unhealthy first, then by name, this controller's own node last. A new version that fails stops its own roll.
"""

from infrakit.group.actions import Priority, StopRoll
from infrakit.group.plan import limits
from infrakit.group.plan.draft import Draft, plural, times
from infrakit.group.view import Member
from infrakit.spi.event import to_the_second
from infrakit.spi.group import OnFailure
from infrakit.spi.values import BOOTSTRAP

FAILURES_MAX = 3  # of one slot, while rolling


def roll(draft: Draft) -> None:
    """Take the next out-of-date members, as many as the update policy allows."""
    want, census = draft.want, draft.census
    failure = _failure(draft) if draft.view.rolling_to == want.group.hash and not want.roll_stopped else ""
    if failure:
        rollback = want.group.properties.updating.on_failure is OnFailure.ROLLBACK and bool(want.previous_hash)
        verdict = "the previous version is declared again" if rollback else "the roll is paused"
        draft.actions.append(
            StopRoll(hash=want.group.hash, rollback=rollback, reason=f"{failure}: {verdict}", rule="on-failure")
        )
        return
    if not census.outdated:
        return
    if want.roll_stopped:
        _explain_stop(draft)
        return
    why = limits.breaker(draft)
    if why:
        limits.refuse(draft, want.group.name, f"rolling {plural(len(census.outdated), 'instance')}", why)
        return
    _take(draft)


def _take(draft: Draft) -> None:
    want, census = draft.want, draft.census
    outdated = [m for m in census.outdated if m.id not in draft.chosen]
    ready, ailing = {m.id for m in census.ready}, {m.id for m in census.ailing}
    available = limits.ready_bearers(draft) - census.unsettled
    moving = len(draft.leaving) + draft.pending + max(0, want.size - draft.staying - draft.pending) + census.unsettled
    going = any(m.hash not in {want.group.hash, BOOTSTRAP} for m in census.leaving)  # shutting down, and not gone
    for member in sorted(outdated, key=lambda m: (m.is_self, m.id not in ailing, _name(m))):
        if member.is_self and (len(outdated) > 1 or going):
            draft.hold(member.id, "it hosts this controller and goes last", "own-node-last")
            return
        if member.id in ready:
            if available - 1 < want.size - want.max_unavailable:
                _explain_wait(draft, member, available)
                return
            available -= 1
        elif member.id in ailing:
            if moving >= max(1, want.max_unavailable):
                _explain_wait(draft, member, available)
                return
        else:
            draft.hold(member.id, f"{member.id} is out of date, and its health is not known", "unknown-is-not-acted-on")
            continue
        moving += 1
        draft.destroy(
            member,
            f"made from version {short(member.hash)}, declared is {short(want.group.hash)}",
            "out-of-date",
            Priority.UPDATE,
            rolling=True,
        )


def _failure(draft: Draft) -> str:
    """Why the new version has failed, or nothing."""
    version = draft.want.group.hash
    for member in draft.census.sick:
        if member.hash == version and not member.leaving:
            note = f" ({member.report.note})" if member.report is not None and member.report.note else ""
            return f"{member.id}, made from the new version {short(version)}, is unhealthy{note}"
    for slot, trouble in draft.view.troubles.items():
        if trouble.hash == version and trouble.count >= FAILURES_MAX:
            return f"{slot} has failed {times(trouble.count)} with the new version {short(version)} ({trouble.why})"
    return ""


def _explain_stop(draft: Draft) -> None:
    order = draft.want.orders.roll
    if order is None:
        return
    name = draft.want.group.name
    remedy = f"infrakit group resume {name}, infrakit group rollback {name}, or commit another version"
    draft.hold(
        name,
        f"{plural(len(draft.census.outdated), 'instance')} out of date; the roll was "
        f"{'aborted' if order.aborted else 'paused'} by {order.who} at {to_the_second(order.when)}: {order.why}",
        "roll-stopped",
        refused=True,
        remedy=remedy,
    )


def _explain_wait(draft: Draft, member: Member, available: int) -> None:
    want, census = draft.want, draft.census
    settling = f" ({plural(census.unsettled, 'new one')} must stay healthy a little longer)" if census.unsettled else ""
    draft.hold(
        member.id,
        f"out of date, and next: {max(0, available)} of {want.size} are available{settling}, "
        f"and {plural(want.max_unavailable, 'instance')} may be unavailable",
        "max-unavailable",
        until=census.next_look,
    )


def _name(member: Member) -> tuple[int, str]:
    """Slots of cattle in the order of numbers."""
    name = member.slot or member.id
    return (int(name) if name.isdigit() else 0, name)


def short(version: str) -> str:
    return version[:8] or "none"
