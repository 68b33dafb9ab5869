"""Pets: one instance for each declared logical ID, never two; a replacement only after confirmed termination (law 2).

In a group with a quorum, members join and leave one at a time while a majority is healthy. Without a majority, they
join all at once, because waiting would protect nothing: so a new ensemble boots, or a lost majority is restored.
"""

from collections.abc import Iterator

from infrakit.group.actions import Priority, Provision
from infrakit.group.plan import exchange, foreign, limits, tags, versions, volumes
from infrakit.group.plan.builder import PlanBuilder, duration, plural
from infrakit.group.plan.classification import holders
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Member
from infrakit.spi.values import LogicalID, Slot, State


def unwanted(builder: PlanBuilder) -> None:
    """Mark the intents as unwanted whose logical ID is not declared, or is that of an instance that has returned."""
    declared = {Slot(i) for i in builder.want.logical_ids}
    unsettled = (s for s in builder.view.pending if s not in builder.settled)
    builder.unwanted.update(s for s in unsettled if s not in declared or _has_returned(builder, s))


def _has_returned(builder: PlanBuilder, slot: Slot) -> bool:
    """Whether another instance than the intent's has the logical ID after all; it was reported as terminated before."""
    token = builder.view.pending[slot].intent.token
    members = builder.classified.by_slot.get(slot, ())
    return any(m.token not in (None, token) and _stays(m) for m in members)


def _stays(member: Member) -> bool:
    return not member.leaving and member.state is not State.STOPPING and member.missing_since is None


def create(builder: PlanBuilder) -> None:
    """Create an instance for every declared logical ID that has none."""
    want, view = builder.want, builder.view
    joining = _joining(builder)
    if not joining and _majority_is_ready(builder):
        joining = exchange.blocks_creation(builder)
    for sequence, logical_id in enumerate(want.logical_ids, 1):
        slot = Slot(logical_id)
        if slot in view.pending:
            continue
        held_by = holders(builder.classified, logical_id)
        if held_by:
            _explain_holder(builder, logical_id, held_by)
            continue
        if any(rule(builder, slot) for rule in (foreign.blocks, tags.blocks_creation, volumes.blocks)):
            continue
        version = versions.of_new(builder, slot)
        if builder.backs_off(slot, f"logical ID {logical_id}", version=version):
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
                hash=version,
                reason=f"logical ID {logical_id} is declared and has no instance",
                rule="no-instance",
                priority=Priority.QUORUM if want.quorum else Priority.HEAL,
            )
        )
        if _majority_is_ready(builder):
            joining = f"{logical_id} is joining"


def _majority_is_ready(builder: PlanBuilder) -> bool:
    return builder.want.quorum and limits.has_majority(builder)


def _joining(builder: PlanBuilder) -> str:
    """Return which member is joining the quorum now, or an empty string. After BootGrace, it blocks others no more."""
    if not _majority_is_ready(builder):
        return ""
    waiting = [str(action.slot) for action in builder.actions if isinstance(action, Provision)]
    waiting += [str(slot) for slot, creation in builder.view.pending.items() if _is_created(builder, slot, creation)]
    waiting += [
        str(m.slot)
        for m in builder.classified.unknown
        if builder.view.now < m.grace_ends_at(builder.want.boot_grace_s) and m.slot
    ]
    return f"{waiting[0]} is joining" if waiting else ""


def _is_created(builder: PlanBuilder, slot: Slot, creation: Creation) -> bool:
    """Whether its instance may exist and boot, although no listing shows it yet."""
    if slot in builder.unwanted or slot in builder.settled:
        return False
    if creation.phase in (Phase.CREATED, Phase.UNKNOWN):
        return builder.view.now < creation.ended_at + builder.want.boot_grace_s
    return creation.phase is Phase.CALLING


def _explain_holder(builder: PlanBuilder, logical_id: LogicalID, held_by: list[Member]) -> None:
    for member in held_by:
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


def remove(builder: PlanBuilder) -> None:
    """Remove instances whose logical ID is not declared, and those without one."""
    want = builder.want
    declared = {Slot(i) for i in want.logical_ids}
    extra = [m for m in _staying(builder) if m.slot not in declared and not _may_be_created(builder, m)]
    if not extra:
        return
    why = limits.breaker(builder)
    if why:
        limits.refuse(builder, want.group.name, f"{plural(len(extra), 'undeclared instance')} not removed", why)
        return
    ready, unhealthy = ({m.id for m in each} for each in (builder.classified.ready, builder.classified.unhealthy))
    # Unhealthy ones first. A missing one may be healthy, so it is not preferred to others of unknown health.
    extra.sort(key=lambda m: (m.is_self, m.id in ready, m.id not in unhealthy, m.id))
    for member in extra if want.quorum else extra[: limits.scale_in(builder, len(extra))]:
        what = f"logical ID {member.logical_id} is" if member.logical_id else "it has no logical ID and"
        why_not = exchange.blocks_removal(builder, member) if want.quorum else ""
        if why_not:
            builder.block(
                member.id, f"{what} not declared; members leave a quorum one at a time: {why_not}", "quorum-leave"
            )
            continue
        builder.destroy(member, f"{what} not declared", "surplus", Priority.COLLECT)


def _may_be_created(builder: PlanBuilder, member: Member) -> bool:
    """Whether a creation that is not settled may have created it, as far as tags show; if so, add a blocked action."""
    if member.slot is not None or member.token is not None or not builder.unresolved:
        return False
    what = "it has neither a logical ID nor a token, so a creation that is not settled may have created it"
    builder.block(member.id, f"{what}: not removed before that is settled", "one-intent")
    return True


def _staying(builder: PlanBuilder) -> list[Member]:
    classified = builder.classified
    staying = [*classified.missing, *classified.unhealthy, *classified.unknown, *classified.ready]
    return [m for m in staying if m.id not in builder.chosen]


def remove_duplicates(builder: PlanBuilder) -> None:
    """Resolve several live instances with one logical ID: destroy the newest one that is certainly not its bearer.

    One in a group at a time: if the facts about one are wrong, its termination shows that before the next.
    """
    leaving = next(_second_bearers_leaving(builder), None)
    for logical_id in builder.want.logical_ids:
        live = [m for m in holders(builder.classified, logical_id) if not m.leaving and m.id not in builder.chosen]
        if len(live) <= 1:
            continue
        kept, why = _bearer(builder, logical_id, live)
        ready = {m.id for m in builder.classified.ready}
        if kept is None or kept.id not in ready:
            what = (
                "none proven healthy" if not any(m.id in ready for m in live) else "and none is certainly the right one"
            )
            builder.block(
                str(logical_id),
                f"logical ID {logical_id} has several live instances, {what}: {', '.join(m.id for m in live)}",
                "one-per-logical-id",
                refused=True,
                remedy="destroy the wrong one: infrakit instance destroy ID",
            )
            continue
        second = max((m for m in live if m is not kept), key=lambda m: m.created_at)
        what = f"{kept.id} has logical ID {logical_id} too, is healthy, and {why}"
        if leaving is None:
            builder.destroy(second, what, "one-per-logical-id", Priority.QUORUM)
            leaving = second
        else:
            builder.block(second.id, f"{what}: {leaving.id} must terminate first", "one-per-logical-id")


def _second_bearers_leaving(builder: PlanBuilder) -> Iterator[Member]:
    for logical_id in builder.want.logical_ids:
        bearers = holders(builder.classified, logical_id)
        if len(bearers) > 1:
            yield from (m for m in bearers if m.leaving or m.id in builder.chosen)


def _bearer(builder: PlanBuilder, logical_id: LogicalID, live: list[Member]) -> tuple[Member | None, str]:
    """Return which of several instances has the identity, and why; None: no fact shows it.

    Identity is address and volume: it is the one that holds the volume, as the provider reports it. Without such a
    report, it is the one whose termination was never confirmed.
    """
    declared = builder.view.attachments.get(logical_id, ())
    if declared and all(isinstance(m.description.attachments, tuple) for m in live):
        holding = [m for m in live if not m.lacks(declared)]
        return (holding[0], "holds its volume") if len(holding) == 1 else (None, "")
    staying = [m for m in live if not m.has_returned]
    return (staying[0], "was never terminated") if len(staying) == 1 else (None, "")
