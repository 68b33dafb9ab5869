"""Deciding: `decide(want, view)` is pure, and everything it decides carries its reason.

The parts are asked in a fixed order and add to one draft: what must never be doubled comes first (intents, bearers),
then the list of members, what is missing, what is too much, the sick, and only then the out of date.
"""

from infrakit.group.actions import Destroy, Label, Plan, Priority
from infrakit.group.plan import cattle, destroying, heal, intents, limits, membership, pets, roll
from infrakit.group.plan.census import count
from infrakit.group.plan.draft import Draft
from infrakit.group.plan.want import Want
from infrakit.group.view import GroupView
from infrakit.spi.event import to_the_second

__all__ = ["Want", "decide"]


def decide(want: Want, view: GroupView) -> Plan:
    """What to do now about a group, and what not, each with its reason."""
    changing = view.membership.changing if view.membership is not None else None
    settled = frozenset(view.settled())
    draft = Draft(want=want, view=view, census=count(want, view), settled=settled, changing=changing)
    name = want.group.name
    if view.problem:
        draft.hold(name, f"nothing is decided: {view.problem}", "unknown-is-not-missing")
        return _finish(draft, "unknown")
    if want.orders.halt is not None:
        halt = want.orders.halt
        draft.hold(
            name,
            f"halted by {halt.who} at {to_the_second(halt.when)}: {halt.why}",
            "halt",
            refused=True,
            remedy=f"infrakit unhalt{'' if halt.group is None else ' ' + halt.group}",
        )
        return _finish(draft, "halted")
    if want.orders.destroying is not None:
        destroying.destroy_all(draft)
        return _finish(draft, "destroying")
    kind = pets if want.group.is_pets else cattle
    kind.unwanted(draft)
    intents.resolve(draft)
    _relabel(draft)
    membership.keep(draft)
    _evict(draft)
    if want.group.is_pets:
        pets.one_bearer(draft)
        pets.create(draft)
        pets.retire(draft)
    else:
        cattle.create(draft)
        cattle.remove(draft)
    heal.replace(draft)
    roll.roll(draft)
    phase = _phase(draft)
    if phase != "converged" and not draft.actions and not draft.holds:
        _wait_for_stopping(draft)
    return _finish(draft, phase)


def _wait_for_stopping(draft: Draft) -> None:
    """Nothing replaces these and nothing here is ending them, so nothing else explains the wait."""
    for member in draft.census.leaving:
        if not member.leaving:
            draft.hold(member.id, f"{member.id} is shutting down: waits until it is gone", "shutting-down")


def _relabel(draft: Draft) -> None:
    for member in draft.census.relabel:
        draft.actions.append(
            Label(
                instance=member.id,
                hash=draft.want.group.hash,
                reason="it joins as a bootstrap member: adopted as up to date",
                rule="adopt",
            )
        )


def _evict(draft: Draft) -> None:
    """Operators may name an instance to destroy; a quorum's limit holds for them too."""
    census = draft.census
    may_live = {m.id for m in (*census.ready, *census.doubtful)}
    for instance, eviction in draft.want.orders.evictions.items():
        member = draft.view.members.get(instance)
        if member is None or member.leaving:
            continue
        why = limits.quorum_would_suffer(draft, member) if instance in may_live else ""
        if why:
            draft.hold(
                instance,
                f"{eviction.who} ordered its end: {why}",
                "quorum-needs",
                refused=True,
                remedy="wait until the others are healthy",
            )
            continue
        draft.destroy(member, f"{eviction.who} ordered its end: {eviction.why}", "operator", Priority.HEAL)


def _finish(draft: Draft, phase: str) -> Plan:
    looks = [h.until for h in draft.holds if h.until > draft.view.now]
    return Plan(
        actions=tuple(draft.actions),
        holds=tuple(draft.holds),
        converged=phase == "converged",
        phase=phase,
        next_look=min([draft.census.next_look, *looks]),
    )


def _phase(draft: Draft) -> str:
    """One word for where the group is. `converged` in the sense of law 7: proven, for these very instances."""
    want, view, census = draft.want, draft.view, draft.census
    if census.outdated and want.roll_stopped:
        return "paused"
    if census.outdated or (view.rolling_to == want.group.hash and census.unsettled):
        return "rolling"
    if any(isinstance(a, Destroy) and a.rule == "surplus" for a in draft.actions):
        return "scaling"
    proven = limits.ready_bearers(draft) == want.size == len(view.members)
    proven = proven and membership.is_settled(draft)
    if proven and not view.pending and not draft.actions and not census.relabel:
        return "converged"
    return "healing" if view.rolling_to == "" and len(census.ready) else "creating"
