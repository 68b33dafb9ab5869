"""Law 5, never make it worse: the circuit breaker MaxUnhealthy, and the majority of a quorum.

When more than MaxUnhealthy members are unhealthy at once, the cause is rarely in the machines. Then healing, rolling
updates and scaling in destroy nothing until fewer are unhealthy or an operator overrides the limit. For a quorum, once
one member is unhealthy, every declared member that is not proven healthy counts, in any state.
"""

from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.state.member import Member
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


def unhealthy_count(builder: PlanBuilder) -> int:
    """How many members count as unhealthy for the circuit breaker."""
    if builder.want.quorum:
        return builder.want.size - ready_count(builder)
    return len(builder.classified.unhealthy)


def breaker(builder: PlanBuilder) -> str:
    """The reason why the circuit breaker forbids destruction now; empty if it does not."""
    want, count = builder.want, unhealthy_count(builder)
    if count <= want.max_unhealthy or not builder.classified.unhealthy:
        return ""
    if want.quorum:
        return f"{count} of {want.size} members are not proven healthy, and MaxUnhealthy is {want.max_unhealthy}"
    return f"{count} of {want.size} members are unhealthy, and MaxUnhealthy is {want.max_unhealthy}"


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
    left = ready_count(builder) - (member in builder.classified.ready)
    if left >= want.size - want.can_lose:
        return ""
    return (
        f"{left} of {want.size} members would be left proven healthy and the quorum needs {want.size - want.can_lose}"
    )
