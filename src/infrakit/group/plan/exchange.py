"""Exchanges the members of a quorum one at a time: a new one is proven healthy before the next old one is destroyed.

Members that are not declared any more serve until then: each healthy one stands in for a declared one that does not
exist yet. So a mistyped list of logical IDs neither creates nor destroys more than one member before there is proof
that the new ones work, and the old ones keep their majority.
"""

from infrakit.gate.voters import NO_MARGIN
from infrakit.group.actions import Provision
from infrakit.group.plan import limits, volumes
from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.plan.classification import holders
from infrakit.group.state.member import Member
from infrakit.spi.values import LogicalID, Slot


def blocks_creation(builder: PlanBuilder) -> str:
    """Return why no further member may be created now, or an empty string."""
    standing_in = limits.standing_in(builder)
    if not standing_in:
        return ""
    ready = limits.ready_count(builder)
    unproven = builder.want.size - ready - len(absent(builder))
    if ready + standing_in + unproven <= builder.want.size or not (ready or unproven):
        return ""
    return "the new member is proven healthy first" if unproven else "one that is not declared any more leaves first"


def blocks_removal(builder: PlanBuilder, member: Member) -> str:
    """Return why this member, which is not declared any more, may not leave now, or an empty string."""
    if builder.leaving:
        return f"{builder.leaving[0].id} is leaving"
    size, ready, missing = builder.want.size, limits.ready_count(builder), absent(builder)
    if ready >= size:
        return limits.would_break_quorum(builder, member) if builder.staying > NO_MARGIN else ""
    left = ready + limits.standing_in(builder) - (member in builder.classified.ready)
    joining = ready + len(missing) < size or any(isinstance(action, Provision) for action in builder.actions)
    # The member that needs its volume cannot join before it: it leaves first, as if it were replaced.
    moves = volumes.holds_any_of(builder, member, missing)
    if (ready or moves) and not joining and left >= (size - 1 if moves else size):
        return ""
    return f"{ready} of {size} declared are proven healthy"


def absent(builder: PlanBuilder) -> list[LogicalID]:
    """Return the declared logical IDs that have neither an instance nor an intent."""
    pending = builder.view.pending
    return [i for i in builder.want.logical_ids if Slot(i) not in pending and not holders(builder.classified, i)]


def vacant(builder: PlanBuilder) -> list[LogicalID]:
    """Return the absent logical IDs, except those whose volume an unhealthy member holds: it must be replaced first."""
    unhealthy = [m for m in builder.classified.unhealthy if m.id not in builder.chosen]
    return [i for i in absent(builder) if not any(volumes.holds_any_of(builder, m, [i]) for m in unhealthy)]
