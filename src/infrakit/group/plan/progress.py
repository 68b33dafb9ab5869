"""The progress of a rolling update: each new member that becomes healthy, and each that has baked.

An update without progress for ProgressDeadline has failed. The time is not stored: a new leader counts it again.
"""

import math

from infrakit.group.actions import GroupPhase, Plan
from infrakit.group.plan.builder import PlanBuilder, duration, plural
from infrakit.group.plan.canary import has_baked
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.view import GroupView
from infrakit.spi.values import Health

UNDECIDED = (GroupPhase.UNKNOWN, GroupPhase.UNMANAGED)  # plans without a decision: neither progress nor an end
MOVING = (GroupPhase.ROLLING, GroupPhase.CREATING, GroupPhase.HEALING, GroupPhase.SCALING)


def track(want: DesiredState, view: GroupView, plan: Plan) -> None:
    """Record the progress of the rolling update that a plan is part of."""
    if math.isinf(want.progress_deadline_s) or plan.phase in UNDECIDED:
        return
    if plan.phase not in MOVING or want.rollout_stopped or not _is_rolling(want, view, plan):
        view.versions.stop()
        return
    new = [m for m in view.members.values() if m.hash == want.group.hash and m.health(view.now) is Health.HEALTHY]
    baked = sum(has_baked(m, want.bake_s, view.now) for m in new)
    view.versions.advance(want.group.hash, len(new) + baked, view.now)


def _is_rolling(want: DesiredState, view: GroupView, plan: Plan) -> bool:
    return plan.phase is GroupPhase.ROLLING or want.is_unproven or view.rolling_to == want.group.hash


def stalled(builder: PlanBuilder) -> str:
    """Return why a rolling update that makes no progress has failed, or an empty string."""
    want, tracked = builder.want, builder.view.versions
    if tracked.rolling_to != want.group.hash:
        return ""
    fails_at = tracked.progress_at + want.progress_deadline_s
    if builder.view.now < fails_at:
        builder.classified.next_check = min(builder.classified.next_check, fails_at)
        return ""
    outdated = plural(len(builder.classified.outdated), "instance")
    return (
        f"no new instance has become healthy for {duration(builder.view.now - tracked.progress_at)}, with {outdated} "
        "out of date (ProgressDeadline)"
    )
