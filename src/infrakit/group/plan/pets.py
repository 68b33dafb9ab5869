"""Pets: one instance for each declared logical ID, never two; a replacement only after confirmed termination (law 2).

For a quorum, members join and leave one at a time while a majority is healthy; without one nothing is gained by
waiting, so that a new ensemble boots, and a lost majority is restored, at once.
"""

from infrakit.group.actions import Priority, Provision
from infrakit.group.plan import limits
from infrakit.group.plan.builder import PlanBuilder, duration, plural
from infrakit.group.plan.classification import bearers
from infrakit.group.state.creation import Phase
from infrakit.group.state.member import Member
from infrakit.spi.values import LogicalID, Slot


def unwanted(builder: PlanBuilder) -> None:
    """Mark the intents for logical IDs that are not declared (any more)."""
    declared = {Slot(i) for i in builder.want.logical_ids}
    builder.unwanted.update(s for s in builder.view.pending if s not in declared and s not in builder.settled)


def create(builder: PlanBuilder) -> None:
    """Create an instance for every declared logical ID that has none."""
    want, view = builder.want, builder.view
    joining = _joining(builder)
    for sequence, logical_id in enumerate(want.logical_ids, 1):
        slot = Slot(logical_id)
        if slot in view.pending:
            continue
        held = bearers(builder.classified, logical_id)
        if held:
            _explain_bearer(builder, logical_id, held)
            continue
        if builder.backs_off(slot, f"logical ID {logical_id}"):
            continue
        if joining:
            builder.block(
                slot,
                f"logical ID {logical_id} has no instance; members of a quorum join one at a time: {joining}",
                "quorum-join",
            )
            continue
        builder.actions.append(
            Provision(
                slot=slot,
                logical_id=logical_id,
                sequence=sequence,
                hash=want.hash,
                reason=f"logical ID {logical_id} is declared and has no instance",
                rule="missing",
                priority=Priority.QUORUM if want.quorum else Priority.HEAL,
            )
        )
        if _majority_is_ready(builder):
            joining = f"{logical_id} is joining"


def _majority_is_ready(builder: PlanBuilder) -> bool:
    return builder.want.quorum and limits.ready_bearers(builder) >= builder.want.size - builder.want.can_lose


def _joining(builder: PlanBuilder) -> str:
    """Who is joining a quorum now, in words; one that cannot become healthy within its grace does not block others."""
    if not _majority_is_ready(builder):
        return ""
    waiting = [
        str(slot)
        for slot, p in builder.view.pending.items()
        if p.phase is Phase.CALLING and slot not in builder.unwanted
    ]
    waiting += [
        str(m.slot)
        for m in builder.classified.doubtful
        if builder.view.now < m.born_at + builder.want.boot_grace_s and m.slot
    ]
    return f"{waiting[0]} is joining" if waiting else ""


def _explain_bearer(builder: PlanBuilder, logical_id: LogicalID, held: list[Member]) -> None:
    for member in held:
        if member.missing_since is not None:
            builder.block(
                member.id,
                f"{member.id} has logical ID {logical_id} and has been missing from the listing for "
                f"{duration(builder.view.now - member.missing_since)}; "
                "no replacement until its termination is confirmed",
                "one-per-logical-id",
                remedy="the provider must list it, report it terminated, or leave it out for the lag that it promises",
                until=member.missing_since + max(builder.view.lag_s, 1.0),
            )


def retire(builder: PlanBuilder) -> None:
    """Remove instances whose logical ID is not declared, and those without one."""
    want = builder.want
    declared = {Slot(i) for i in want.logical_ids}
    extra = [m for m in _staying(builder) if m.slot not in declared]
    if not extra:
        return
    why = limits.breaker(builder)
    if why:
        limits.refuse(builder, want.group.name, f"removing {plural(len(extra), 'undeclared instance')}", why)
        return
    for member in sorted(extra, key=lambda m: (m.is_self, m.id)):
        who = f"logical ID {member.logical_id} is" if member.logical_id else "it has no logical ID and"
        if want.quorum:
            blocker = _cannot_retire(builder)
            if blocker:
                builder.block(
                    member.id, f"{who} not declared; members leave a quorum one at a time: {blocker}", "quorum-leave"
                )
                continue
        builder.destroy(member, f"{who} not declared", "surplus", Priority.COLLECT)


def _staying(builder: PlanBuilder) -> list[Member]:
    classified = builder.classified
    staying = [*classified.missing, *classified.ailing, *classified.doubtful, *classified.ready]
    return [m for m in staying if m.id not in builder.chosen]


def _cannot_retire(builder: PlanBuilder) -> str:
    """A member leaves only when no other is leaving and all declared members are proven healthy."""
    if builder.leaving:
        return f"{builder.leaving[0].id} is leaving"
    ready = limits.ready_bearers(builder)
    return f"{ready} of {builder.want.size} declared are proven healthy" if ready < builder.want.size else ""


def one_bearer(builder: PlanBuilder) -> None:
    """Two live instances with one logical ID, for whatever reason: keep the healthy one, destroy the youngest other."""
    for logical_id in builder.want.logical_ids:
        held = [m for m in bearers(builder.classified, logical_id) if not m.leaving and m.id not in builder.chosen]
        if len(held) <= 1:
            continue
        ready = {m.id for m in builder.classified.ready}
        keep, *others = sorted(held, key=lambda m: (m.id not in ready, m.born_at))
        if keep.id not in ready:
            builder.block(
                str(logical_id),
                f"logical ID {logical_id} has several live instances, none proven healthy: "
                f"{', '.join(m.id for m in held)}",
                "one-per-logical-id",
                refused=True,
                remedy="destroy the wrong one: infrakit instance destroy ID",
            )
            continue
        victim = others[-1]
        builder.destroy(
            victim,
            f"{keep.id} has logical ID {logical_id} too, and is healthy and older",
            "one-per-logical-id",
            Priority.QUORUM,
        )
