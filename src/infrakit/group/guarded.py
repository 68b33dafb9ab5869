"""A plan without what the guard refuses; each refusal is a blocked action with its reason."""

import math
from collections.abc import Iterator

import msgspec

from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.gate.guard import Guard, Limits, Seen
from infrakit.group.actions import Blocked, Destroy, Plan, Provision
from infrakit.group.plan import DesiredState
from infrakit.group.plan.classification import unattached
from infrakit.group.state.creation import Phase
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.spi.token import is_from_bootstrap
from infrakit.spi.values import BOOTSTRAP, Health, InstanceID, Slot, State


def limits(want: DesiredState, view: GroupView) -> Limits:
    """Return what the declaration and the commands for the group permit."""
    orders = want.orders
    requested = [
        member.id
        for instance in {*orders.evictions, *orders.despite_unhealthy}
        if (member := view.members.get(instance)) is not None
        and (
            orders.eviction(instance, member.description.tags)
            or orders.is_replaced_despite_unhealthy(instance, member.description.tags)
        )
    ]
    return Limits(
        size=want.size,
        max_lost=max(1, want.max_unhealthy),
        quorum=want.quorum,
        version=want.group.hash,
        resumed=orders.resumed,
        destroying=orders.destroying is not None,
        requested=frozenset(requested),
        slots=frozenset(Slot(each) for each in want.logical_ids) if want.group.is_pets else None,
        votes=_votes(view) if want.quorum else 0,
        joining=_joining(view) if want.quorum else frozenset(),
    )


def _votes(view: GroupView) -> int:
    """How many identities may have an instance: those of members, and of creations that may have succeeded."""
    members = view.members.values()
    tokens = {member.token for member in members}
    pending = [each for each in view.pending.values() if each.phase not in (Phase.RECORDED, Phase.REFUSED)]
    created = sum(each.intent.token not in tokens for each in pending)
    return len({member.slot or member.id for member in members}) + created


def _joining(view: GroupView) -> frozenset[InstanceID]:
    """Return the members for which the member list needed a change in the last poll, however old that is."""
    needs = view.membership.needs if view.membership is not None else ()
    return frozenset(need.instance for need in needs if need.due and need.instance is not None)


def observed(want: DesiredState, view: GroupView) -> Iterator[Seen]:
    """Yield every member as the guard sees it."""
    now, effect_s = view.now, CALL_DEADLINE_S + view.lag_s
    for member in view.members.values():
        health = member.health(now)
        healthy = None if health is Health.UNKNOWN else health is Health.HEALTHY
        if member.state is State.FINISHED:
            healthy = True
        if healthy and view.attachments and unattached(want, view, member):
            healthy = False
        yield Seen(
            member.id,
            member.slot,
            healthy,
            member.missing_since is None,
            member.was_requested_to_end(now, effect_s=effect_s),
            member.judged_at,
            -math.inf if _is_from_operator(member) else member.listed_at,
            member.token or "",
        )


def _is_from_operator(member: Member) -> bool:
    """Whether an operator has created it by bootstrap or recovery: that proves that this is the right provider.

    It may be listed later than others vanished, and become a member only when its cluster is adopted.
    """
    return member.hash == BOOTSTRAP or is_from_bootstrap(member.description.tags)


def guarded(plan: Plan, guard: Guard, want: DesiredState, view: GroupView) -> Plan:
    """Record what is observed, and return the plan without the actions that the guard refuses now."""
    group, now = want.group.name, view.now
    guard.declare(limits(want, view), now)
    if not view.problem:
        guard.observe(observed(want, view), now)
    if want.orders.destroying is not None and guard.why_unproven and not view.members:
        return _not_ended(plan, guard, group)
    if not any(isinstance(action, Destroy | Provision) for action in plan.actions):
        return plan
    verdict = guard.review([action.instance for action in plan.actions if isinstance(action, Destroy)], now)
    kept, refused, left = [], 0, verdict.creations
    for action in plan.actions:
        if isinstance(action, Destroy) and action.instance in verdict.destroys:
            continue
        if isinstance(action, Provision) and action.token is None:
            left -= 1
            if left < 0:
                refused += 1
                continue
        kept.append(action)
    blocked = [*plan.blocked, *_destroys(verdict.destroys, group)]
    if refused:
        remedy = f"find the cause first; to permit as many again: infrakit group resume {group}"
        reason = f"creating {refused} more is refused: {verdict.why_no_more}"
        blocked.append(
            Blocked(subject=group, reason=reason, rule="guard", refused=True, remedy=remedy, until=verdict.until)
        )
    checks = [plan.next_check, *([verdict.until] if refused else [])]
    return msgspec.structs.replace(plan, actions=tuple(kept), blocked=tuple(blocked), next_check=min(checks))


def _not_ended(plan: Plan, guard: Guard, group: str) -> Plan:
    """Add why a group that is being destroyed is not forgotten, nor its volumes deleted."""
    remedy = f"check at the provider that they do not exist: infrakit group resume {group}"
    reason = f"the end of its destruction is refused: {guard.why_unproven}"
    block = Blocked(subject=group, reason=reason, rule="guard", refused=True, remedy=remedy)
    return msgspec.structs.replace(plan, blocked=(*plan.blocked, block))


def _destroys(refused: dict[InstanceID, str], group: str) -> list[Blocked]:
    """One blocked action for each reason, because a plan may destroy thousands."""
    by_reason: dict[str, list[InstanceID]] = {}
    for instance, why in refused.items():
        by_reason.setdefault(why, []).append(instance)
    blocked = []
    for why, instances in by_reason.items():
        alone = len(instances) == 1
        what = instances[0] if alone else f"{len(instances)} instances"
        blocked.append(
            Blocked(
                subject=instances[0] if alone else group,
                reason=f"destroying {what} is refused: {why}",
                rule="guard",
                refused=True,
                remedy="wait until the others are proven healthy; infrakit instance destroy ID overrides MaxUnhealthy, "
                "but not the majority of a quorum",
            )
        )
    return blocked
