"""Forecasts the actions that a declaration leads to: plans on a copy of the view, and applies each plan as successful.

It runs the planner of the controller itself, so a forecast differs from later actions only if a call fails or the
infrastructure changes.
"""

import copy
from collections.abc import Sequence

import msgspec

from infrakit.group import plan as planning
from infrakit.group.actions import (
    Action,
    ChangeMembership,
    Destroy,
    GroupPhase,
    Label,
    Plan,
    Provision,
    Settle,
    StopRollout,
)
from infrakit.group.plan import DesiredState
from infrakit.group.state.creation import Phase
from infrakit.group.state.member import Member
from infrakit.group.state.membership import Membership
from infrakit.group.state.revision import Revision
from infrakit.group.state.versions import Versions
from infrakit.group.state.view import GroupView
from infrakit.spi import values
from infrakit.spi.values import Description, Health, HealthReport, InstanceID, Slot, State

STEPS_MAX = 500
IDLE_STEPS_MAX = 10  # consecutive steps without an action, in which only time passes
HEALTHY = HealthReport(health=Health.HEALTHY)


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The actions that a declaration leads to, and the lowest redundancy on the way."""

    actions: list[Action]
    last: Plan  # converged, or blocked by something that no action resolves
    lowest: int  # how many declared members are healthy at the worst moment, if each action takes its time


def forecast(want: DesiredState, view: GroupView, others: Sequence[Description] = ()) -> tuple[list[Action], Plan]:
    """Return the actions in order, and the last plan."""
    foreseen = foresee(want, view, others)
    return foreseen.actions, foreseen.last


def foresee(want: DesiredState, view: GroupView, others: Sequence[Description] = ()) -> Forecast:
    """Return what the declaration leads to, if every call succeeds and every new instance becomes healthy."""
    want, world = msgspec.structs.replace(want, paced=False), _copy(view)
    actions: list[Action] = []
    plan, idle, lowest = Plan(), 0, healthy(want, world)
    for step in range(STEPS_MAX):
        plan = planning.decide(want, world, others)
        if plan.phase is GroupPhase.ROLLING:
            world.rolling_to = want.group.hash
        lowest = min(lowest, healthy(want, world, without=plan))
        for action in plan.actions:
            apply(world, action, number=step)
            if not isinstance(action, Settle):
                actions.append(action)
        if any(isinstance(a, StopRollout) for a in plan.actions):
            break
        idle = 0 if plan.actions else idle + 1
        if not plan.actions:
            if plan.converged or plan.next_check == float("inf") or idle > IDLE_STEPS_MAX:
                break
            world.now = plan.next_check
            for member in world.members.values():
                member.judged_at = world.now
            if world.membership is not None:
                world.membership.requested_at = world.now
    return Forecast(actions=actions, last=plan, lowest=lowest)


def healthy(want: DesiredState, world: GroupView, *, without: Plan | None = None) -> int:
    """Return how many declared members are healthy, while what that plan destroys is gone and not replaced yet."""
    gone = {a.instance for a in without.actions if isinstance(a, Destroy)} if without is not None else set()
    if without is not None and not gone:
        return want.size  # not lower than before
    left = [m for m in world.members.values() if m.id not in gone and _is_healthy(m, world.now)]
    if not want.group.is_pets:
        return min(len(left), want.size)
    declared = {Slot(i) for i in want.logical_ids}
    return len({m.slot for m in left if m.slot in declared})


def _is_healthy(member: Member, now: float) -> bool:
    return member.state is State.FINISHED or member.health(now) is Health.HEALTHY


def apply(world: GroupView, action: Action, *, number: int) -> None:
    """Apply one action to the copied view, as if it succeeded immediately."""
    if isinstance(action, Provision):
        world.pending.pop(action.slot, None)
        _create(world, action, InstanceID(f"new-{action.slot}-{number}"))
    elif isinstance(action, Destroy):
        world.members.pop(action.instance, None)
    elif isinstance(action, Label):
        member = world.members[action.instance]
        member.hash = member.listed_hash = action.hash
    elif isinstance(action, Settle):
        world.pending.pop(action.slot, None)
    elif isinstance(action, ChangeMembership) and world.membership is not None:
        world.membership.needs = tuple(need for need in world.membership.needs if need != action.change)


def _create(world: GroupView, action: Provision, instance: InstanceID) -> None:
    tag = values.TAG_LOGICAL_ID if world.pets else values.TAG_SLOT
    tags = {values.TAG_GROUP: str(world.group), values.TAG_HASH: action.hash, tag: str(action.slot)}
    world.members[instance] = Member(
        description=Description(id=instance, logical_id=action.logical_id, tags=tags),
        id=instance,
        slot=action.slot,
        logical_id=action.logical_id,
        hash=action.hash,
        token=action.token,
        created_at=world.now,
        seen_at=world.now,
        report=HEALTHY,
        judged_at=world.now,
        healthy_since=world.now,
    )


def _copy(view: GroupView) -> GroupView:
    world = copy.copy(view)
    world.changes = Revision()
    world.members = {i: copy.copy(m) for i, m in view.members.items() if not m.leaving}
    world.pending, settled = {}, view.settled()
    for slot, pending in view.pending.items():
        if slot in settled:
            continue
        world.pending[slot] = copy.copy(pending)
        world.pending[slot].phase = Phase.RECORDED  # calls in flight are assumed to succeed
    if (known := view.membership) is not None:
        needs = tuple(need for need in known.needs if need != known.changing)  # assumed to succeed
        world.membership = Membership(needs=needs, requested_at=known.requested_at, problem=known.problem)
    world.backoffs = {}
    world.versions = Versions()
    world.absences = {}
    return world
