"""Cattle: as many instances as declared, whichever they are; never more than the size plus the surge of a rollout."""

import math

from infrakit.group.actions import Priority, Provision
from infrakit.group.plan import limits, versions
from infrakit.group.plan.builder import PlanBuilder, plural
from infrakit.group.state.creation import Phase
from infrakit.group.state.member import Member
from infrakit.spi.values import InstanceID, Slot


def surge(builder: PlanBuilder) -> int:
    """How many more instances than declared may exist now, because a rolling update is in progress."""
    if not builder.classified.outdated or builder.want.rollout_stopped or limits.breaker(builder):
        return 0
    most = min(builder.want.max_surge, len(builder.classified.outdated))
    return most if builder.canary is None else min(most, builder.canary.declared)


def unwanted(builder: PlanBuilder) -> None:
    """Mark surplus intents as unwanted: first those not requested yet, then the highest slots."""
    excess = builder.staying + builder.unresolved - builder.want.size - surge(builder)
    if excess <= 0:
        return
    unresolved = {s: p for s, p in builder.view.pending.items() if s not in builder.settled}
    candidates = [(p.phase is not Phase.RECORDED, -_number(s), s) for s, p in unresolved.items()]
    builder.unwanted.update(slot for _, _, slot in sorted(candidates)[:excess])


def _number(slot: Slot) -> float:
    """The number of a slot; that of a pet, from before the group became cattle, is the highest."""
    return int(slot) if slot.isdecimal() else math.inf


def create(builder: PlanBuilder) -> None:
    """Create missing instances in the lowest free slots."""
    want, view = builder.want, builder.view
    extra = surge(builder)
    known = len(view.known.slots)
    missing = want.size + extra - builder.staying - builder.pending
    if known and missing > 0:
        reason = f"{plural(known, 'known member')} not listed since this leader took over"
        builder.block(want.group.name, f"{reason}; no replacement until the termination is confirmed", "not-listed")
    if missing <= 0:
        return
    room = want.size + extra - len(view.members) - builder.unresolved
    if room < missing:
        builder.block(
            want.group.name,
            f"{plural(missing - max(0, room), 'instance')} to create: waiting for instances that are shutting down",
            "never-more-than-declared",
        )
    alive = f"{builder.staying + builder.pending} of {want.size} exist"
    for slot in _free_slots(builder, extra)[: max(0, room)]:
        version = versions.of_new(builder, slot)
        if builder.backs_off(slot, f"slot {slot}", version=version):
            continue
        healing = int(slot) <= want.size
        builder.actions.append(
            Provision(
                slot=slot,
                sequence=int(slot),
                hash=version,
                reason=f"slot {slot} has no instance: {alive}"
                if healing
                else f"slot {slot} is surge capacity of the rolling update",
                rule="no-instance" if healing else "max-surge",
                priority=Priority.HEAL if healing else Priority.UPDATE,
            )
        )


def _free_slots(builder: PlanBuilder, extra: int) -> list[Slot]:
    taken = builder.classified.by_slot.keys() | builder.view.pending.keys() | builder.view.known.slots.keys()
    return [s for n in range(1, builder.want.size + extra + 1) if (s := Slot(str(n))) not in taken]


def remove(builder: PlanBuilder) -> None:
    """Remove surplus instances: unhealthy first, then out of date, then newest; this controller's own node last.

    Of several that one request has created, all but one are surplus, however many are declared. If they are one machine
    with several IDs, they terminate together, and it is replaced.
    """
    want, classified = builder.want, builder.classified
    missing = [m for m in classified.missing if m.id not in builder.chosen]
    exist = builder.staying - len(missing)  # without intents, whose instances may be listed without their tokens
    others = doubles(builder)
    excess = max(exist - want.size - surge(builder), len(others))
    if excess <= 0:
        if missing and excess + len(missing) > 0:
            first = missing[0].id
            builder.block(first, f"{first} is missing, so whether it is surplus is unknown", "unknown-is-not-acted-on")
        return
    why = limits.breaker(builder)
    if why:
        limits.refuse(builder, want.group.name, f"{plural(excess, 'surplus instance')} not removed", why)
        return
    unhealthy = {m.id for m in classified.unhealthy}
    old = {m.id for m in classified.outdated}

    def rank(member: Member) -> tuple[bool, bool, bool, bool, float]:
        single = member.id not in others
        return (member.is_self, single, member.id not in unhealthy, member.id not in old, -member.created_at)

    staying = [*classified.unhealthy, *classified.unknown, *classified.ready]
    candidates = sorted((m for m in staying if m.id not in builder.chosen), key=rank)
    for member in candidates[: limits.scale_in(builder, min(excess, len(candidates)))]:
        if member.id in others:
            what = f"the request that created it created {others[member.id].id} too: one of them is surplus"
        else:
            choice = "unhealthy" if member.id in unhealthy else "out of date" if member.id in old else "the newest"
            what = f"{exist} exist and {want.size} are declared; it is {choice}"
        builder.destroy(member, what, "surplus", Priority.COLLECT)


def doubles(builder: PlanBuilder) -> dict[InstanceID, Member]:
    """Return the members that have the token of another one, each with that other one, which is the oldest.

    A token is of one request, so the provider has created two machines for it, or lists one machine under two IDs. What
    is leaving or not listed is not compared: if it is the same machine, the others terminate with it.
    """
    found: dict[InstanceID, Member] = {}
    for members in builder.classified.by_slot.values():
        if len(members) > 1:  # a request is for one slot
            kept: dict[str, Member] = {}
            for member in sorted(members, key=lambda m: (m.created_at, m.id)):
                if member.token is None or member.missing_since is not None or member in builder.leaving:
                    continue
                first = kept.setdefault(member.token, member)
                if first is not member:
                    found[member.id] = first
    return found
