"""Law 5, never make it worse: the circuit breaker MaxUnhealthy, and the majority of a quorum.

When more than MaxUnhealthy members are unhealthy at once, the cause is rarely in the machines. Then nothing is
destroyed, for any reason, until fewer are unhealthy or an operator overrides the limit. For a quorum, every declared
member that is not proven healthy counts, in any state.
"""

from infrakit.group.plan.builder import PlanBuilder, plural
from infrakit.group.state.member import Member
from infrakit.spi.values import Slot

REMEDY = (
    "check for a common cause (network, health check, disk); it ends when fewer are unhealthy; "
    "to override it: infrakit group resume {group} --despite-unhealthy"
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
        return (
            f"{count} of {want.size} members are not proven healthy and the quorum can lose only {want.can_lose}"
            if want.max_unhealthy == want.can_lose
            else f"{count} of {want.size} members are not proven healthy; MaxUnhealthy is {want.max_unhealthy}"
        )
    return f"{plural(count, 'member')} of {want.size} are unhealthy; MaxUnhealthy is {want.max_unhealthy}"


def refuse(builder: PlanBuilder, subject: str, what: str, why: str) -> None:
    """Add an action that the circuit breaker refuses."""
    builder.block(
        subject,
        f"{what} is refused: {why}",
        "max-unhealthy",
        refused=True,
        remedy=REMEDY.format(group=builder.want.group.name),
    )


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
