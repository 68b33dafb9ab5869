"""What a declaration would lead to: the plans of a copy of the view, each carried out as if everything went well.

The planner itself is asked again and again, so that a forecast differs from what will be done only by surprises.
"""

import copy

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
    StopRoll,
)
from infrakit.group.plan import DesiredState
from infrakit.group.state.creation import Phase
from infrakit.group.state.member import Member
from infrakit.group.state.membership import Membership
from infrakit.group.state.revision import Revision
from infrakit.group.state.view import GroupView
from infrakit.spi import values
from infrakit.spi.values import Description, Health, HealthReport, InstanceID

STEPS_MAX = 500
IDLE_STEPS_MAX = 10  # in a row, in which only time passes
WELL = HealthReport(health=Health.HEALTHY)


def forecast(want: DesiredState, view: GroupView) -> tuple[list[Action], Plan]:
    """The actions in order, and the last plan: converged, or holding for something that no success brings about."""
    world = _copy(view)
    actions: list[Action] = []
    plan, idle = Plan(), 0
    for step in range(STEPS_MAX):
        plan = planning.decide(want, world)
        if plan.phase is GroupPhase.ROLLING:
            world.rolling_to = want.group.hash
        for action in plan.actions:
            apply(world, action, number=step)
            if not isinstance(action, Settle):
                actions.append(action)
        if any(isinstance(a, StopRoll) for a in plan.actions):
            break
        idle = 0 if plan.actions else idle + 1
        if not plan.actions:
            if plan.converged or plan.next_look == float("inf") or idle > IDLE_STEPS_MAX:
                break
            world.now = plan.next_look
            for member in world.members.values():
                member.judged_at = world.now
            if world.membership is not None:
                world.membership.asked_at = world.now
    return actions, plan


def apply(world: GroupView, action: Action, *, number: int) -> None:
    """Carry out one action on a model of the world: at once, and well."""
    if isinstance(action, Provision):
        world.pending.pop(action.slot, None)
        _create(world, action, InstanceID(f"new-{action.slot}-{number}"))
    elif isinstance(action, Destroy):
        world.members.pop(action.instance, None)
    elif isinstance(action, Label):
        world.members[action.instance].hash = action.hash
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
        born_at=world.now,
        report=WELL,
        judged_at=world.now,
        healthy_since=world.now,
    )


def _copy(view: GroupView) -> GroupView:
    world = copy.copy(view)
    world.changes = Revision()
    world.members = {i: copy.copy(m) for i, m in view.members.items() if not m.leaving}
    world.pending = {}
    for slot, pending in view.pending.items():
        world.pending[slot] = copy.copy(pending)
        world.pending[slot].phase = Phase.RECORDED  # what is under way is taken to succeed
    if (known := view.membership) is not None:
        needs = tuple(need for need in known.needs if need != known.changing)  # what is under way is taken to succeed
        world.membership = Membership(needs=needs, asked_at=known.asked_at, problem=known.problem)
    world.backoffs = {}
    world.absences = {}
    return world
