"""Replace what has been unhealthy for too long, unless so many look sick that the cause must be elsewhere."""

from infrakit.group.actions import Priority, Provision
from infrakit.group.plan import limits
from infrakit.group.plan.census import bearers
from infrakit.group.plan.draft import Draft, duration, times
from infrakit.group.view import Member


def replace(draft: Draft) -> None:
    """Destroy the sick; what is missing then is created when it is gone."""
    want, census = draft.want, draft.census
    sick = sorted((m for m in census.sick if m.id not in draft.chosen), key=lambda m: (m.is_self, m.slot or "", m.id))
    if not sick:
        return
    why = limits.breaker(draft)
    for member in sick:
        if why and member.id not in want.orders.despite_unhealthy:
            limits.refuse(draft, member.id, f"replacing {member.id} ({_since(draft, member)})", why)
            continue
        moving = _moving(draft) if want.quorum else ""
        if moving:
            draft.hold(member.id, f"{_since(draft, member)}; a quorum is healed one at a time: {moving}", "quorum-heal")
            continue
        trouble = draft.view.troubles.get(member.slot or member.id)
        if trouble is not None and trouble.retry_at > draft.view.now:
            draft.hold(
                member.id,
                f"{_since(draft, member)}; its slot has failed {times(trouble.count)}, replaced in "
                f"{duration(trouble.retry_at - draft.view.now)}",
                "back-off",
                until=trouble.retry_at,
            )
            continue
        draft.destroy(member, _since(draft, member), "unhealthy", Priority.QUORUM if want.quorum else Priority.HEAL)


def _moving(draft: Draft) -> str:
    if draft.leaving:
        return f"{draft.leaving[0].id} is leaving"
    if draft.pending or any(isinstance(a, Provision) for a in draft.actions):
        return "a member is being created"
    absent = [i for i in draft.want.logical_ids if not bearers(draft.census, i)]
    return f"{absent[0]} is missing" if absent else ""


def _since(draft: Draft, member: Member) -> str:
    since = draft.view.now - (member.unhealthy_since or draft.view.now)
    note = f" ({member.report.note})" if member.report is not None and member.report.note else ""
    return f"unhealthy for {duration(since)}{note}"
