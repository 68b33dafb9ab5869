"""Converts a controller's view and plan to the values that operators see."""

import asyncio

import msgspec

from infrakit.group.actions import Action, Blocked, GroupPhase, Provision
from infrakit.group.controller import Controller
from infrakit.group.orders import Orders
from infrakit.group.plan.adopting import IN_PLACE
from infrakit.group.plan.builder import duration, times
from infrakit.group.plan.classification import unattached
from infrakit.group.plan.desired import DesiredState
from infrakit.group.plan.volumes import attachments as named
from infrakit.group.state.creation import Phase
from infrakit.group.state.member import Leaving, Member
from infrakit.spi.clock import Clock
from infrakit.spi.event import timestamp
from infrakit.spi.group import Group
from infrakit.spi.manager import GroupStatus, MemberStatus, Reasoned, Verdict
from infrakit.spi.values import Attachment, Health, LogicalID, State


def group_status(controller: Controller, clock: Clock) -> GroupStatus:
    """Return the status of a group, with its actions in progress and its blocked actions."""
    want, view, plan = controller.want, controller.view, controller.plan
    now = asyncio.get_running_loop().time()
    return GroupStatus(
        name=want.group.name,
        kind="pets" if want.group.is_pets else "cattle",
        allocation=want.group.properties.allocation.to_wire(),
        hash=want.group.hash,
        proven=want.proven.hash if want.proven is not None else "",
        want=0 if want.orders.destroying else want.size,
        live=len(view.members),
        healthy=_healthy(controller, now),
        up_to_date=sum(want.is_current(m) for m in view.members.values()),
        converged=plan.converged and controller.is_current,
        phase=plan.phase if controller.is_current else GroupPhase.HALTED if want.orders.halt else GroupPhase.PLANNING,
        observed_age_s=None if view.observed_at is None else round(now - view.observed_at, 3),
        doing=tuple(reasoned(a, order) for order, a in enumerate(controller.executor.doing, 1)),
        waiting=tuple(blocked_line(h, clock) for h in controller.blocked),
        halt=want.orders.halt,
        quorum=controller.can_lose,
    )


def unmanaged(group: Group, orders: Orders, why: str) -> GroupStatus:
    """Return the status of a declared group without a controller, because its plugins have not answered yet."""
    declared = group.properties.allocation
    size = len(declared.logical_ids) if declared.logical_ids is not None else declared.size or 0
    remedy = "start them: infrakit plugin ls shows those that run; they are retried every few seconds"
    return GroupStatus(
        name=group.name,
        kind="pets" if group.is_pets else "cattle",
        allocation=declared.to_wire(),
        hash=group.hash,
        want=0 if orders.destroying else size,
        live=0,
        healthy=0,
        up_to_date=0,
        converged=False,
        phase=GroupPhase.UNMANAGED,
        waiting=(Reasoned(verb="wait", subject=group.name, reason=why, rule="plugins", remedy=remedy),),
        halt=orders.halt,
    )


def reasoned(action: Action, order: int = 0, *, verb: str = "") -> Reasoned:
    """Convert an action; `order` is its position in the plan, from 1."""
    return Reasoned(
        verb=verb or action.verb, subject=str(action.subject), reason=action.reason, rule=action.rule, order=order
    )


def blocked_line(block: Blocked, clock: Clock) -> Reasoned:
    """Convert a blocked action, with the time of its next check."""
    next_check = ""
    if block.until != float("inf"):
        now = asyncio.get_running_loop().time()
        next_check = timestamp(clock.now() + max(0.0, block.until - now))
    return Reasoned(
        verb="refuse" if block.refused else "wait",
        subject=block.subject,
        reason=block.reason,
        rule=block.rule,
        remedy=block.remedy,
        next_look=next_check,
    )


def members(controller: Controller) -> list[MemberStatus]:
    """Return the status of every member and of every pending creation, in the order of their slots."""
    now = asyncio.get_running_loop().time()
    view, want = controller.view, controller.want
    statuses = [_member(want, m, now, unattached(want, view, m)) for m in view.members.values()]
    settled = set(view.settled())
    for slot, pending in view.pending.items():
        if slot not in settled:
            statuses.append(
                MemberStatus(
                    group=view.group,
                    id=pending.instance,
                    slot=slot,
                    logical_id=LogicalID(slot) if view.pets else None,
                    state="creating",
                    note=pending.error if pending.phase is not Phase.CALLING else "",
                    hash=pending.intent.hash,
                    up_to_date=pending.intent.hash == want.group.hash,
                )
            )
    return sorted(statuses, key=lambda s: _order(s.slot or ""))


def _order(slot: str) -> tuple[int, str]:
    return (int(slot) if slot.isdigit() else 0, slot)


def _member(want: DesiredState, member: Member, now: float, lacking: tuple[Attachment, ...] = ()) -> MemberStatus:
    attachments = member.description.attachments
    report = member.report
    health = Verdict.HEALTHY if member.state is State.FINISHED else Verdict[member.health(now).name]
    note = report.note if report is not None else ""
    if lacking:
        health = Verdict.UNKNOWN if health is Verdict.HEALTHY else health
        note = f"not attached: {named(lacking)}{f'; {note}' if note else ''}"
    return MemberStatus(
        group=want.group.name,
        id=member.id,
        slot=member.slot,
        logical_id=member.logical_id,
        state=_state(member),
        health=health,
        note=note,
        health_age_s=round(now - member.judged_at, 3) if report is not None else None,
        age_s=round(now - member.created_at, 3),
        up_to_date=want.is_current(member),
        hash=member.hash,
        is_self=member.is_self,
        tags=dict(member.description.tags or {}),
        attachments=attachments if isinstance(attachments, tuple) else (),
    )


def _state(member: Member) -> str:
    if member.leaving:
        return "draining" if member.leaving is Leaving.DRAINING else "destroying"
    if member.missing_since is not None:
        return "missing"
    if member.state is State.STOPPING:
        return "destroying"
    return str(member.state or State.RUNNING)


def summary(controller: Controller) -> str:
    """Summarise a group in one sentence, with the age of the observation."""
    want, view, plan = controller.want, controller.view, controller.plan
    now = asyncio.get_running_loop().time()
    if view.observed_at is None:
        return f"{want.group.name} has not been observed yet: {view.problem}"
    age = duration(now - view.observed_at)
    settled = view.settled()
    creating = len([slot for slot, p in view.pending.items() if p.phase is not Phase.CREATED and slot not in settled])
    parts = [f"{len(view.members)} of {want.size} exist", f"{_healthy(controller, now)} proven healthy"]
    if creating:
        parts.append(f"{creating} being created")
    verdict = "converged" if plan.converged else f"not converged ({plan.phase})"
    return f"{want.group.name} is {verdict}: {', '.join(parts)}, as observed {age} ago"


def proven_fact(want: DesiredState) -> str:
    """Return which version is proven, and when it is used instead of the declared one."""
    if want.proven is None:
        return "no version is recorded as proven yet: that needs all instances healthy at the same time"
    if not want.is_unproven:
        return "the declared version is proven: all instances have been healthy with it"
    use = "healing creates it" if want.hash == want.proven.hash else "a failed rolling update returns to it"
    return f"version {want.proven.hash[:8]} is the last proven one: {use}"


def _healthy(controller: Controller, now: float) -> int:
    view, want = controller.view, controller.want
    healthy = [m for m in view.members.values() if m.state is State.FINISHED or m.health(now) is Health.HEALTHY]
    return len(healthy) - sum(bool(unattached(want, view, m)) for m in healthy)


def member_facts(controller: Controller, member: Member) -> tuple[str, ...]:
    """List the facts about one member, each with its age."""
    now = asyncio.get_running_loop().time()
    want = controller.want
    facts = [f"{member.id} was created {duration(now - member.created_at)} ago"]
    if member.logical_id is not None:
        facts.append(f"it has logical ID {member.logical_id}")
    if member.missing_since is not None:
        facts.append(f"it has been missing from the listing for {duration(now - member.missing_since)}")
    elif controller.view.observed_at is not None:
        facts.append(f"it is {_state(member)}, as listed {duration(now - controller.view.observed_at)} ago")
    facts.append(_health_fact(member, now))
    if member.start_error:
        facts.append(f"its creation returned an error: {member.start_error}")
    if lacking := unattached(want, controller.view, member):
        facts.append(f"it does not hold {named(lacking)}, which is declared: it does not count as proven healthy")
    facts.append(_version_fact(want, member))
    backoff = controller.view.backoffs.get(str(member.slot))
    if backoff is not None and backoff.version == member.hash:
        facts.append(f"its slot has failed {times(backoff.count)} ({backoff.why})")
    return tuple(facts)


def _version_fact(want: DesiredState, member: Member) -> str:
    if member.hash == want.group.hash:
        return "it matches the declared version"
    if want.is_current(member):
        return f"it is of version {member.hash[:8]}, and nothing that it is made from has changed: up to date"
    return f"it is of version {member.hash[:8]}, out of date"


def _health_fact(member: Member, now: float) -> str:
    """Describe the health of a member. A verdict that does not count any more has an age, but no duration."""
    report = member.report
    if report is None:
        return "its health has not been checked yet"
    age = duration(now - member.judged_at)
    if member.health(now) is not report.health:
        verdict = f"{report.health.name.lower()}, {report.note}" if report.note else report.health.name.lower()
        unlisted = " while it is missing from the listing" if member.missing_since is not None else ""
        return f"its health is unknown{unlisted}: the last verdict ({verdict}) is {age} old"
    note = f" ({report.note})" if report.note else ""
    since = member.healthy_since if report.health is Health.HEALTHY else member.unhealthy_since
    if since is None:
        return f"its health is unknown{note}; last checked {age} ago"
    return f"it has been {report.health.name.lower()} for {duration(now - since)}{note}; last checked {age} ago"


def forecast_lines(actions: list[Action]) -> list[Reasoned]:
    """Convert a forecast to lines of a diff: a destruction and a later creation in the same slot are a replacement."""
    lines: list[Reasoned] = []
    replaced: dict[str, int] = {}
    for action in actions:
        if isinstance(action, Provision) and action.slot in replaced:
            replaced.pop(action.slot)
            continue
        if action.verb == "destroy" and action.rule in {"out-of-date", "unhealthy", "operator"}:
            replaced[str(getattr(action, "slot", ""))] = len(lines)
            lines.append(reasoned(action, len(lines) + 1, verb="replace"))
            continue
        lines.append(reasoned(action, len(lines) + 1, verb="update" if action.rule == IN_PLACE else ""))
    for index in replaced.values():
        lines[index] = msgspec.structs.replace(lines[index], verb="destroy")
    return lines
