"""Replaces members that have been unhealthy for too long, unless more than MaxUnhealthy members are unhealthy."""

from infrakit.group.actions import Priority, Provision
from infrakit.group.plan import exchange, limits
from infrakit.group.plan.builder import PlanBuilder, duration
from infrakit.group.state.backoff import replacement_key
from infrakit.group.state.member import Member


def replace(builder: PlanBuilder) -> None:
    """Destroy members that have been unhealthy for too long; replacements are created once termination is confirmed."""
    want, classified = builder.want, builder.classified
    unhealthy = sorted(
        (m for m in classified.replaceable if m.id not in builder.chosen), key=lambda m: (m.is_self, m.slot or "", m.id)
    )
    if not unhealthy:
        return
    why = limits.breaker(builder)
    for member in unhealthy:
        if why and not want.orders.is_replaced_despite_unhealthy(member.id, member.description.tags):
            limits.refuse(builder, member.id, f"{_since(builder, member)}, but not replaced", why)
            continue
        disruption = _disruption(builder) if want.quorum else ""
        if disruption:
            builder.block(
                member.id,
                f"{_since(builder, member)}; members of a quorum are replaced one at a time: {disruption}",
                "quorum-heal",
            )
            continue
        failures, what = replacement_key(member.slot or ""), f"{_since(builder, member)}; replacing slot {member.slot}"
        if builder.backs_off(failures, what, version=member.hash, subject=member.id):
            continue
        builder.destroy(member, _since(builder, member), "unhealthy", Priority.QUORUM if want.quorum else Priority.HEAL)


def _disruption(builder: PlanBuilder) -> str:
    """Return why a member of the quorum is unavailable already, or an empty string."""
    if builder.leaving:
        return f"{builder.leaving[0].id} is leaving"
    if builder.pending or any(isinstance(a, Provision) for a in builder.actions):
        return "a member is being created"
    vacant = exchange.vacant(builder)
    return f"{vacant[0]} has no instance" if len(vacant) > limits.standing_in(builder) else ""


def _since(builder: PlanBuilder, member: Member) -> str:
    since = builder.view.now - (member.unhealthy_since or builder.view.now)
    note = f" ({member.report.note})" if member.report is not None and member.report.note else ""
    return f"unhealthy for {duration(since)}{note}"
