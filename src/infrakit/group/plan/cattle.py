"""Cattle: as many as declared, no matter which. What may live never exceeds the size plus the surge of a roll."""

from infrakit.group.actions import Priority, Provision
from infrakit.group.plan import limits
from infrakit.group.plan.draft import Draft, duration, plural, times
from infrakit.group.view import Member
from infrakit.spi.values import Slot


def surge(draft: Draft) -> int:
    """How many more than declared may live now, because a roll is under way."""
    if not draft.census.outdated or draft.want.roll_stopped or limits.breaker(draft):
        return 0
    return min(draft.want.max_surge, len(draft.census.outdated))


def unwanted(draft: Draft) -> None:
    """Mark the intents that are too many: those not asked for yet first, then the highest slots."""
    excess = draft.staying + draft.unresolved - draft.want.size - surge(draft)
    if excess <= 0:
        return
    unresolved = {s: p for s, p in draft.view.pending.items() if s not in draft.settled}
    candidates = [(p.phase != "recorded", -int(s), s) for s, p in unresolved.items()]
    draft.unwanted.update(slot for _, _, slot in sorted(candidates)[:excess])


def create(draft: Draft) -> None:
    """Create what is missing, in the lowest free slots."""
    want, view = draft.want, draft.view
    extra = surge(draft)
    missing = want.size + extra - draft.staying - draft.pending
    if missing <= 0:
        return
    room = want.size + extra - len(view.members) - draft.unresolved
    if room < missing:
        draft.hold(
            want.group.name,
            f"{plural(missing - max(0, room), 'instance')} to create: waits until as many that are leaving are gone",
            "never-more-than-declared",
        )
    for slot in _free_slots(draft, extra)[: max(0, room)]:
        trouble = view.troubles.get(slot)
        if trouble is not None and trouble.retry_at > view.now:
            draft.hold(
                slot,
                f"slot {slot} has failed {times(trouble.count)} ({trouble.why}); tried again in "
                f"{duration(trouble.retry_at - view.now)}",
                "back-off",
                until=trouble.retry_at,
            )
            continue
        healing = int(slot) <= want.size
        alive = f"{draft.staying + draft.pending} of {want.size} exist"
        draft.actions.append(
            Provision(
                slot=slot,
                sequence=int(slot),
                hash=want.hash,
                reason=f"slot {slot} has no instance: {alive}" if healing else f"slot {slot} is a surge of the roll",
                rule="missing" if healing else "max-surge",
                priority=Priority.HEAL if healing else Priority.UPDATE,
            )
        )


def _free_slots(draft: Draft, extra: int) -> list[Slot]:
    taken = draft.census.by_slot.keys() | draft.view.pending.keys()
    return [s for n in range(1, draft.want.size + extra + 1) if (s := Slot(str(n))) not in taken]


def remove(draft: Draft) -> None:
    """Remove what is too much: unhealthy first, then out of date, then newest; this controller's own node last."""
    want, census = draft.want, draft.census
    excess = draft.staying + draft.pending - want.size - surge(draft)
    if excess <= 0:
        return
    why = limits.breaker(draft)
    if why:
        limits.refuse(draft, want.group.name, f"removing {plural(excess, 'surplus instance')}", why)
        return
    sick = {m.id for m in census.ailing} | {m.id for m in census.missing}
    old = {m.id for m in census.outdated}

    def rank(member: Member) -> tuple[bool, bool, bool, float]:
        return (member.is_self, member.id not in sick, member.id not in old, -member.born_at)

    exist = draft.staying + draft.pending
    staying = [*census.missing, *census.ailing, *census.doubtful, *census.ready]
    for member in sorted((m for m in staying if m.id not in draft.chosen), key=rank)[:excess]:
        choice = "unhealthy" if member.id in sick else "out of date" if member.id in old else "the newest"
        draft.destroy(
            member,
            f"{exist} exist and {want.size} are declared; it is {choice}",
            "surplus",
            Priority.COLLECT,
        )
