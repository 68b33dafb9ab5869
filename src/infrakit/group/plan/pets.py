"""Pets: one bearer for each declared logical ID, never two, and its successor only on evidence of death (law 2).

For a quorum, members join and leave one at a time while a majority is healthy; without one nothing is gained by
waiting, so that a new ensemble boots, and a lost majority is restored, at once.
"""

from infrakit.group.actions import Priority, Provision
from infrakit.group.plan import limits
from infrakit.group.plan.census import bearers
from infrakit.group.plan.draft import Draft, duration, times
from infrakit.group.view import Member
from infrakit.spi.values import LogicalID, Slot


def unwanted(draft: Draft) -> None:
    """Mark the intents for logical IDs that are not declared (any more)."""
    declared = {Slot(i) for i in draft.want.logical_ids}
    draft.unwanted.update(s for s in draft.view.pending if s not in declared and s not in draft.settled)


def create(draft: Draft) -> None:
    """Create the bearer of every declared logical ID that nobody bears."""
    want, view = draft.want, draft.view
    joining = _joining(draft)
    for sequence, logical_id in enumerate(want.logical_ids, 1):
        slot = Slot(logical_id)
        if slot in view.pending:
            continue
        held = bearers(draft.census, logical_id)
        if held:
            _explain_bearer(draft, logical_id, held)
            continue
        trouble = view.troubles.get(slot)
        if trouble is not None and trouble.retry_at > view.now:
            draft.hold(
                slot,
                f"{logical_id} has failed {times(trouble.count)} ({trouble.why}); tried again in "
                f"{duration(trouble.retry_at - view.now)}",
                "back-off",
                until=trouble.retry_at,
            )
            continue
        if joining:
            draft.hold(
                slot, f"{logical_id} is missing; members of a quorum join one at a time: {joining}", "quorum-join"
            )
            continue
        draft.actions.append(
            Provision(
                slot=slot,
                logical_id=logical_id,
                sequence=sequence,
                hash=want.hash,
                reason=f"{logical_id} is declared and nothing bears it",
                rule="missing",
                priority=Priority.QUORUM if want.quorum else Priority.HEAL,
            )
        )
        if _majority_is_ready(draft):
            joining = f"{logical_id} is joining"


def _majority_is_ready(draft: Draft) -> bool:
    return draft.want.quorum and limits.ready_bearers(draft) >= draft.want.size - draft.want.can_lose


def _joining(draft: Draft) -> str:
    """Who is joining a quorum now, in words; one that cannot become healthy within its grace does not block others."""
    if not _majority_is_ready(draft):
        return ""
    waiting = [
        str(slot) for slot, p in draft.view.pending.items() if p.phase == "calling" and slot not in draft.unwanted
    ]
    waiting += [
        str(m.slot) for m in draft.census.doubtful if draft.view.now < m.born_at + draft.want.boot_grace_s and m.slot
    ]
    return f"{waiting[0]} is joining" if waiting else ""


def _explain_bearer(draft: Draft, logical_id: LogicalID, held: list[Member]) -> None:
    for member in held:
        if member.missing_since is not None:
            draft.hold(
                member.id,
                f"{member.id} bears {logical_id} and has not been listed for "
                f"{duration(draft.view.now - member.missing_since)}; no successor without evidence of its death",
                "one-bearer",
                remedy="the provider has to list it, call it terminated, or leave it out for as long as it promises",
                until=member.missing_since + max(draft.view.lag_s, 1.0),
            )


def retire(draft: Draft) -> None:
    """Remove instances whose logical ID is not declared, and those without one."""
    want = draft.want
    declared = {Slot(i) for i in want.logical_ids}
    extra = [m for m in _staying(draft) if m.slot not in declared]
    if not extra:
        return
    why = limits.breaker(draft)
    if why:
        limits.refuse(draft, want.group.name, f"retiring {len(extra)} undeclared", why)
        return
    for member in sorted(extra, key=lambda m: (m.is_self, m.id)):
        who = f"logical ID {member.logical_id} is" if member.logical_id else "it has no logical ID and"
        if want.quorum:
            blocker = _cannot_retire(draft)
            if blocker:
                draft.hold(
                    member.id, f"{who} not declared; members leave a quorum one at a time: {blocker}", "quorum-leave"
                )
                continue
        draft.destroy(member, f"{who} not declared", "surplus", Priority.COLLECT)


def _staying(draft: Draft) -> list[Member]:
    census = draft.census
    staying = [*census.missing, *census.ailing, *census.doubtful, *census.ready]
    return [m for m in staying if m.id not in draft.chosen]


def _cannot_retire(draft: Draft) -> str:
    """Members leave only when nobody is leaving and everybody declared is proven healthy."""
    if draft.leaving:
        return f"{draft.leaving[0].id} is leaving"
    ready = limits.ready_bearers(draft)
    return f"{ready} of {draft.want.size} declared are proven healthy" if ready < draft.want.size else ""


def one_bearer(draft: Draft) -> None:
    """Two live bearers of one logical ID, however that came: keep the proven one, end the youngest other."""
    for logical_id in draft.want.logical_ids:
        held = [m for m in bearers(draft.census, logical_id) if not m.leaving and m.id not in draft.chosen]
        if len(held) <= 1:
            continue
        ready = {m.id for m in draft.census.ready}
        keep, *others = sorted(held, key=lambda m: (m.id not in ready, m.born_at))
        if keep.id not in ready:
            draft.hold(
                str(logical_id),
                f"{logical_id} is borne by {', '.join(m.id for m in held)} and none is proven healthy",
                "one-bearer",
                refused=True,
                remedy="destroy the wrong one: infrakit instance destroy ID",
            )
            continue
        victim = others[-1]
        draft.destroy(
            victim, f"{logical_id} is borne by {keep.id} too, which is healthy and older", "one-bearer", Priority.QUORUM
        )
