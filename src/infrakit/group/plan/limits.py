"""Law 5, never make it worse: the circuit breaker MaxUnhealthy, and the majority of a quorum.

When more than MaxUnhealthy members are unhealthy at once, the cause is rarely in the machines. Then healing, rolling
updates and scaling in destroy nothing until fewer are unhealthy or an operator overrides the limit. Every unhealthy
member counts. For a quorum, once one member is unhealthy, every declared member that is not proven healthy counts too,
in any state, unless a healthy one that is not declared any more stands in for it.
"""

from infrakit.group.plan.builder import PlanBuilder, plural
from infrakit.group.state.member import Member
from infrakit.spi.quorum import majority
from infrakit.spi.values import Slot

REMEDY = (
    "check for a common cause (network, health check, disk); destruction resumes when at most {limit} {state}; "
    "to override the limit: infrakit group resume {group} --despite-unhealthy"
)


def ready_count(builder: PlanBuilder) -> int:
    """How many declared members are proven healthy now and are not chosen for destruction."""
    ready = [m for m in builder.classified.ready if m.id not in builder.chosen]
    if not builder.want.group.is_pets:
        return len(ready)
    declared = {Slot(i) for i in builder.want.logical_ids}
    return len({m.slot for m in ready if m.slot in declared})


def standing_in(builder: PlanBuilder) -> int:
    """How many proven healthy members of a quorum are not declared any more, and serve until others are."""
    if not builder.want.quorum or not builder.want.group.is_pets:
        return 0
    declared = {Slot(i) for i in builder.want.logical_ids}
    return sum(m.slot not in declared and m.id not in builder.chosen for m in builder.classified.ready)


def has_majority(builder: PlanBuilder) -> bool:
    """Whether the members that are proven healthy now form the quorum."""
    ready, others = ready_count(builder), standing_in(builder)
    if ready + others >= builder.want.size - builder.want.can_lose:
        return True
    return others > 0 and ready + others >= majority(builder.staying)


def unhealthy_count(builder: PlanBuilder) -> int:
    """How many members count as unhealthy for the circuit breaker: at least those that are unhealthy."""
    unhealthy = len(builder.classified.unhealthy)
    unproven = builder.want.size - ready_count(builder) - standing_in(builder) if builder.want.quorum else 0
    return max(unhealthy, unproven)


def breaker(builder: PlanBuilder) -> str:
    """The reason why the circuit breaker forbids destruction now; empty if it does not."""
    want, count = builder.want, unhealthy_count(builder)
    if count <= want.max_unhealthy or not builder.classified.unhealthy:
        return ""
    state, members = "not proven healthy" if want.quorum else "unhealthy", max(want.size, builder.classified.staying)
    return f"{count} of {members} members are {state}, and MaxUnhealthy is {want.max_unhealthy}"


def refuse(builder: PlanBuilder, subject: str, what: str, why: str) -> None:
    """Add an action that the circuit breaker refuses; `what` is not done to the subject, which it does not name."""
    want = builder.want
    state = f"{'is' if want.max_unhealthy == 1 else 'are'} {'not proven healthy' if want.quorum else 'unhealthy'}"
    remedy = REMEDY.format(group=want.group.name, limit=want.max_unhealthy, state=state)
    builder.block(subject, f"{what}: {why}", "max-unhealthy", refused=True, remedy=remedy)


def would_break_quorum(builder: PlanBuilder, member: Member) -> str:
    """The reason why removing this member would cost the quorum its majority; empty if it would not."""
    want = builder.want
    if not want.quorum:
        return ""
    others, needed = standing_in(builder), want.size - want.can_lose
    if others:  # while members are exchanged, there are more than declared
        needed = max(needed, majority(builder.staying))
    left = ready_count(builder) + others - (member in builder.classified.ready)
    if left >= needed:
        return ""
    return f"{left} of {want.size} members would be left proven healthy and the quorum needs {needed}"


def at_once(builder: PlanBuilder) -> int:
    """Return how many members that are not known to be unhealthy may be leaving at once, for any reason."""
    return 1 if builder.want.quorum else max(1, builder.want.max_unhealthy)


def may_leave(builder: PlanBuilder, at_once: int) -> int:
    """Return how many more may be destroyed: those that are leaving count until their termination is confirmed."""
    return max(0, at_once - len(builder.leaving))


def scale_in(builder: PlanBuilder, surplus: int) -> int:
    """Return how many surplus members may be destroyed now; what must wait is blocked, with the reason.

    Those that are leaving count until their termination is confirmed, so that each step is observed before the next
    and a halt prevents the rest. A step is `MaxUnavailable`, or 1 % of a large group, and never exceeds `MaxUnhealthy`.
    """
    want = builder.want
    if not want.paced:
        return surplus
    at_once = max(1, min(want.max_unhealthy, max(want.max_unavailable, builder.staying // 100)))
    number = min(surplus, may_leave(builder, at_once))
    leaving = f", and {builder.leaving[0].id} is leaving" if builder.leaving else ""
    if number < surplus:
        builder.block(
            want.group.name,
            f"{plural(surplus - number, 'surplus instance')} not removed yet: at most {at_once} at once{leaving}",
            "scale-in",
        )
    return number
