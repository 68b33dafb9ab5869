"""Deciding: `decide(want, view)` is pure, and everything it decides carries its reason.

The parts are asked in a fixed order and add to one draft: what must never be doubled comes first (intents, bearers),
then the member list, missing and surplus instances, unhealthy ones, and only then out-of-date ones.
"""

from infrakit.group.actions import Destroy, GroupPhase, Label, Plan, Priority
from infrakit.group.plan import cattle, destroying, heal, intents, limits, membership, pets, rollout
from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.plan.classification import classify
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.view import GroupView
from infrakit.spi.event import to_the_second

__all__ = ["DesiredState", "decide"]


def decide(want: DesiredState, view: GroupView) -> Plan:
    """What to do now about a group, and what not, each with its reason."""
    changing = view.membership.changing if view.membership is not None else None
    settled = frozenset(view.settled())
    builder = PlanBuilder(want=want, view=view, classified=classify(want, view), settled=settled, changing=changing)
    name = want.group.name
    if view.problem:
        builder.block(name, f"no decision: {view.problem}", "unknown-is-not-missing")
        return _finish(builder, GroupPhase.UNKNOWN)
    if want.orders.halt is not None:
        halt = want.orders.halt
        builder.block(
            name,
            f"halted by {halt.who} at {to_the_second(halt.when)}: {halt.why}",
            "halt",
            refused=True,
            remedy=f"infrakit unhalt{'' if halt.group is None else ' ' + halt.group}",
        )
        return _finish(builder, GroupPhase.HALTED)
    if want.orders.destroying is not None:
        destroying.destroy_all(builder)
        return _finish(builder, GroupPhase.DESTROYING)
    kind = pets if want.group.is_pets else cattle
    kind.unwanted(builder)
    intents.resolve(builder)
    _relabel(builder)
    membership.keep(builder)
    _evict(builder)
    if want.group.is_pets:
        pets.one_bearer(builder)
        pets.create(builder)
        pets.retire(builder)
    else:
        cattle.create(builder)
        cattle.remove(builder)
    heal.replace(builder)
    rollout.roll(builder)
    phase = _phase(builder)
    if phase is not GroupPhase.CONVERGED and not builder.actions and not builder.blocked:
        _wait_for_stopping(builder)
    return _finish(builder, phase)


def _wait_for_stopping(builder: PlanBuilder) -> None:
    """Nothing replaces these and nothing here is ending them, so nothing else explains the wait."""
    for member in builder.classified.leaving:
        if not member.leaving:
            builder.block(member.id, f"{member.id} is shutting down: waiting for its termination", "shutting-down")


def _relabel(builder: PlanBuilder) -> None:
    for member in builder.classified.relabel:
        builder.actions.append(
            Label(
                instance=member.id,
                hash=builder.want.group.hash,
                reason="it joins as a bootstrap member: adopted as up to date",
                rule="adopt",
            )
        )


def _evict(builder: PlanBuilder) -> None:
    """Operators may name an instance to destroy; a quorum's limit holds for them too."""
    classified = builder.classified
    may_live = {m.id for m in (*classified.ready, *classified.doubtful)}
    for instance, eviction in builder.want.orders.evictions.items():
        member = builder.view.members.get(instance)
        if member is None or member.leaving:
            continue
        why = limits.quorum_would_suffer(builder, member) if instance in may_live else ""
        if why:
            builder.block(
                instance,
                f"{eviction.who} requested its destruction: {why}",
                "quorum-needs",
                refused=True,
                remedy="wait until the others are healthy",
            )
            continue
        builder.destroy(member, f"{eviction.who} requested its destruction: {eviction.why}", "operator", Priority.HEAL)


def _finish(builder: PlanBuilder, phase: GroupPhase) -> Plan:
    looks = [h.until for h in builder.blocked if h.until > builder.view.now]
    return Plan(
        actions=tuple(builder.actions),
        blocked=tuple(builder.blocked),
        converged=phase is GroupPhase.CONVERGED,
        phase=phase,
        next_look=min([builder.classified.next_look, *looks]),
    )


def _phase(builder: PlanBuilder) -> GroupPhase:
    """One word for where the group is. `converged` in the sense of law 7: proven, for these very instances."""
    want, view, classified = builder.want, builder.view, builder.classified
    if classified.outdated and want.roll_stopped:
        return GroupPhase.PAUSED
    if classified.outdated or (view.rolling_to == want.group.hash and classified.unsettled):
        return GroupPhase.ROLLING
    if any(isinstance(a, Destroy) and a.rule == "surplus" for a in builder.actions):
        return GroupPhase.SCALING
    proven = limits.ready_bearers(builder) == want.size == len(view.members)
    proven = proven and membership.is_settled(builder)
    if proven and not view.pending and not builder.actions and not classified.relabel:
        return GroupPhase.CONVERGED
    return GroupPhase.HEALING if view.rolling_to == "" and len(classified.ready) else GroupPhase.CREATING
