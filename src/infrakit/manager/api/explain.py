"""Explains a group or an instance: facts with their age, actions in progress, blocked actions with rules, events."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from infrakit.group import report
from infrakit.group.controller import Controller
from infrakit.group.plan import foreign
from infrakit.group.plan.builder import duration, plural, times
from infrakit.group.state.member import Member
from infrakit.spi import errors, names
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event, timestamp, to_the_second
from infrakit.spi.manager import Explanation, Reasoned
from infrakit.spi.token import cluster_of
from infrakit.spi.values import Description, GroupID, InstanceID, Slot

STORY_MAX = 50


class EventHistory(Protocol):
    """The past events of one object. Implemented by `events.journal.Journal`."""

    def story(self, *, group: GroupID, subject: str, limit: int) -> Sequence[Event]:
        """Return the newest `limit` events about an instance, a slot, or (empty subject) the group; oldest first."""
        ...


def explain(controller: Controller, subject: str, history: EventHistory, clock: Clock) -> Explanation:
    """Explain a group, or what `subject` names in it: an instance, a slot or a logical ID. Raises `NotFound`."""
    name = controller.name
    doing = [report.reasoned(a, order) for order, a in enumerate(controller.executor.doing, 1)]
    waiting = [report.blocked_line(h, clock) for h in controller.blocked]
    if not subject:
        return Explanation(
            subject=name,
            summary=report.summary(controller),
            facts=_group_facts(controller),
            doing=tuple(doing),
            waiting=tuple(waiting),
            story=_story(history, name, ""),
            next_look=_next_check(controller, clock),
        )
    for other in controller.others:
        if other.id == subject:
            return _foreign(controller, other, waiting, history, clock)
    member = _find(controller, subject)
    about = {subject, name} | ({member.id, str(member.slot)} if member is not None else set())
    return Explanation(
        subject=subject,
        summary=_summary(controller, subject, member),
        facts=report.member_facts(controller, member) if member is not None else _slot_facts(controller, subject),
        doing=_about(doing, about - {name}),
        waiting=_about(waiting, about),
        story=_story(history, name, subject if member is None else str(member.id)),
        next_look=_next_check(controller, clock),
    )


def _foreign(
    controller: Controller, other: Description, waiting: Sequence[Reasoned], history: EventHistory, clock: Clock
) -> Explanation:
    """Explain an instance of another cluster."""
    cluster = cluster_of(other.tags)
    facts = [f"it carries the tag of group {controller.name}, and its token names the cluster {cluster}"]
    if other.logical_id:
        facts.append(f"it has logical ID {other.logical_id}: no second instance is created for that")
    return Explanation(
        subject=other.id,
        summary=f"{other.id} belongs to the cluster {cluster}, and is not a member of {controller.name}",
        facts=tuple(facts),
        waiting=tuple(
            line for line in waiting if line.rule == foreign.RULE and f"infrakit adopt {cluster} " in line.remedy
        ),
        story=_story(history, controller.name, other.id),
        next_look=_next_check(controller, clock),
    )


def _about(lines: Sequence[Reasoned], subjects: set[str]) -> tuple[Reasoned, ...]:
    return tuple(line for line in lines if line.subject in subjects)


def _find(controller: Controller, subject: str) -> Member | None:
    view = controller.view
    member = view.members.get(InstanceID(subject))
    if member is not None:
        return member
    for member in view.members.values():
        if subject in (member.slot, member.logical_id):
            return member
    allocation = controller.want.group.properties.allocation
    declared = set(allocation.logical_ids or ()) | {str(n + 1) for n in range(allocation.size or 0)}
    if subject in declared or Slot(subject) in view.pending or Slot(subject) in view.backoffs:
        return None
    raise errors.NotFound(
        f"group {controller.name} has no instance, slot or logical ID {subject!r}",
        remedy=names.remedy(
            subject,
            {*view.members, *declared},
            listed="it has",
            otherwise=f"see: infrakit group describe {controller.name}",
        ),
    )


def _summary(controller: Controller, subject: str, member: Member | None) -> str:
    if member is None:
        if Slot(subject) in controller.view.pending:
            return f"{subject} is being created"
        kind = "logical ID" if controller.want.group.is_pets else "slot"
        return f"{kind} {subject} is declared and has no instance"
    if member.leaving:
        return f"{member.id} is being destroyed ({member.leaving})"
    return f"{member.id} is a member of {controller.name}"


def _slot_facts(controller: Controller, subject: str) -> tuple[str, ...]:
    view, facts = controller.view, []
    pending = view.pending.get(Slot(subject))
    if pending is not None:
        facts.append(f"a creation is recorded since {to_the_second(timestamp(pending.intent.at))}: {pending.phase}")
        if pending.error:
            facts.append(f"its last call returned: {pending.error}")
    backoff = view.backoffs.get(subject)
    if backoff is not None:
        facts.append(f"it has failed {times(backoff.count)} since its back-off began ({backoff.why})")
    return tuple(facts)


def _group_facts(controller: Controller) -> tuple[str, ...]:
    want, view, now = controller.want, controller.view, asyncio.get_running_loop().time()
    facts = [f"version {want.group.hash[:8]} is declared, for {want.size}"]
    facts.append(report.proven_fact(want))
    if want.quorum:
        unlisted = "its flavor does not list the voters of the quorum, so what that can lose is not known"
        facts.append(controller.can_lose or unlisted)
    limit = f"{plural(want.max_unhealthy, 'member')} {'is' if want.max_unhealthy == 1 else 'are'}"
    facts.append(f"destruction stops when more than {limit} unhealthy (MaxUnhealthy)")
    if view.observed_at is not None:
        age_s = now - view.observed_at
        facts.append(f"the provider {controller.account.name} was last listed completely {age_s:.1f} s ago")
    if view.problem:
        facts.append(view.problem)
    if view.membership is not None and view.membership.fresh(now):
        due = sum(need.due for need in view.membership.needs)
        age = duration(now - view.membership.requested_at)
        facts.append(f"the flavor's membership was read {age} ago; {plural(due, 'change')} needed")
    settled = view.settled()
    for slot, pending in [each for each in view.pending.items() if each[0] not in settled][:10]:
        facts.append(f"slot {slot}: a creation is {pending.phase}{f' ({pending.error})' if pending.error else ''}")
    return tuple(facts)


def _story(history: EventHistory, group: GroupID, subject: str) -> tuple[str, ...]:
    events = history.story(group=group, subject=subject, limit=STORY_MAX)
    return tuple(
        f"{to_the_second(e.timestamp)} {e.type} {e.instance or e.slot or ''} {e.message}".replace("  ", " ")
        for e in events
    )


def _next_check(controller: Controller, clock: Clock) -> str:
    now = asyncio.get_running_loop().time()
    delay_s = min(controller.poll_s, max(0.0, controller.plan.next_check - now))
    return timestamp(clock.now() + delay_s)
