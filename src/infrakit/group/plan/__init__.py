"""The planner: `decide(want, view)` is a pure function, and each of its decisions has a reason.

The steps run in a fixed order and add to one `PlanBuilder`: first intents and duplicates of a logical ID, then the
member list, missing and surplus instances, unhealthy instances, and out-of-date instances last.
"""

from collections.abc import Sequence

from infrakit.group.actions import Destroy, GroupPhase, Plan, Priority, Settle
from infrakit.group.plan import (
    adopting,
    canary,
    cattle,
    destroying,
    foreign,
    heal,
    intents,
    limits,
    membership,
    pets,
    proving,
    rollout,
    tags,
    volumes,
)
from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.plan.classification import classify
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.view import GroupView
from infrakit.spi.event import to_the_second
from infrakit.spi.values import Description

__all__ = ["DesiredState", "decide"]


def decide(want: DesiredState, view: GroupView, others: Sequence[Description] = ()) -> Plan:
    """Return the plan for a group: the actions to perform now, and the blocked ones, each with its reason.

    `others`: live instances of other clusters with the group's tag, and of other groups with a logical ID.
    """
    changing = view.membership.changing if view.membership is not None else None
    classified = classify(want, view)
    builder = PlanBuilder(want=want, view=view, classified=classified, settled=view.settled(), changing=changing)
    builder.canary = canary.baking(want, view, classified)
    name = want.group.name
    if view.problem:
        builder.block(name, f"no decision: {view.problem}", "unknown-is-not-missing")
        return _finish(builder, GroupPhase.UNKNOWN)
    if others:
        builder.foreign = foreign.holders(others) if want.group.is_pets else {}
        foreign.explain(builder, others)
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
    if want.conflict:
        remedy = "commit it with other logical IDs, or destroy one of the groups"
        builder.block(name, want.conflict, "one-per-logical-id", refused=True, remedy=remedy)
        return _finish(builder, GroupPhase.UNMANAGED)
    kind = pets if want.group.is_pets else cattle
    kind.unwanted(builder)
    intents.resolve(builder)
    adopting.bootstrapped(builder)
    tags.explain(builder)
    membership.reconcile(builder)
    _evict(builder)
    if want.group.is_pets:
        volumes.explain_unattached(builder)
        pets.remove_duplicates(builder)
        pets.create(builder)
        pets.remove(builder)
    else:
        cattle.create(builder)
        cattle.remove(builder)
    heal.replace(builder)
    rollout.update(builder)
    phase = _phase(builder)
    adopting.in_place(builder)  # after the phase: a label never delays convergence
    if phase is not GroupPhase.CONVERGED and not builder.actions and not builder.blocked:
        _wait_for_stopping(builder)
    return proving.checked(builder, _finish(builder, phase))


def _wait_for_stopping(builder: PlanBuilder) -> None:
    """Explain the wait for instances that shut down without a request of this controller; no other step does."""
    for member in builder.classified.leaving:
        if not member.leaving:
            builder.block(member.id, f"{member.id} is shutting down: waiting for its termination", "shutting-down")


def _evict(builder: PlanBuilder) -> None:
    """Destroy the instances that operators have named, unless that would cost a quorum its majority."""
    if not builder.want.orders.evictions:
        return
    classified = builder.classified
    may_live = {m.id for m in (*classified.ready, *classified.unknown)}
    unhealthy = {m.id for m in classified.unhealthy}
    at_once = limits.at_once(builder)
    left = limits.may_leave(builder, at_once)
    for instance, eviction in builder.want.orders.evictions.items():
        member = builder.view.members.get(instance)
        if member is None or member.leaving or not eviction.concerns(member.description.tags):
            continue
        why = limits.would_break_quorum(builder, member) if instance in may_live else ""
        if why:
            builder.block(
                instance,
                f"{eviction.who} requested its destruction: {why}",
                "quorum-needs",
                refused=True,
                remedy="wait until the others are healthy",
            )
            continue
        what = f"{eviction.who} requested its destruction: {eviction.why}"
        if instance not in unhealthy:
            left -= 1
            if left < 0:
                builder.block(instance, f"{what}; at most {at_once} at once", "operator")
                continue
        builder.destroy(member, what, "operator", Priority.HEAL)


def _finish(builder: PlanBuilder, phase: GroupPhase) -> Plan:
    checks = [block.until for block in builder.blocked if block.until > builder.view.now]
    return Plan(
        actions=tuple(builder.actions),
        blocked=tuple(builder.blocked),
        converged=phase is GroupPhase.CONVERGED,
        phase=phase,
        next_check=min([builder.classified.next_check, *checks]),
    )


def _phase(builder: PlanBuilder) -> GroupPhase:
    """Return the phase of the group. It is `converged` only if that is proven for the current instances (law 7)."""
    want, view, classified = builder.want, builder.view, builder.classified
    if classified.outdated and want.rollout_stopped:
        return GroupPhase.PAUSED
    if classified.outdated or (view.rolling_to == want.group.hash and classified.settling):
        return GroupPhase.ROLLING
    shrinking = any(isinstance(a, Destroy) and a.rule == "surplus" for a in builder.actions)
    if shrinking or any(block.rule == "scale-in" for block in builder.blocked):
        return GroupPhase.SCALING
    proven = limits.ready_count(builder) == want.size == len(view.members)
    proven = proven and membership.is_settled(builder)
    proven = proven and (volumes.are_known(builder) if want.group.is_pets else not cattle.doubles(builder))
    changing = any(not isinstance(action, Settle) for action in builder.actions)
    if proven and not builder.unresolved and not changing and not classified.relabel and not classified.unversioned:
        return GroupPhase.CONVERGED
    return GroupPhase.HEALING if view.rolling_to == "" and len(classified.ready) else GroupPhase.CREATING
