"""When a declared version is proven: every member is of that version, healthy, and has been for BakeTime and Settle.

A declared version is not proven. The last proven one is recorded with the declaration, once for each version, because
healing and rollback return to it: the version before the declared one may have failed, too.
"""

import math

import msgspec

from infrakit.group.actions import Plan
from infrakit.group.plan.builder import PlanBuilder


def checked(builder: PlanBuilder, plan: Plan) -> Plan:
    """Return the plan with whether it proves the declared version, or with the time at which that can be."""
    want, view = builder.want, builder.view
    if not plan.converged or not want.size or (want.proven is not None and not want.is_unproven):
        return plan
    since = max((m.healthy_since for m in view.members.values() if m.healthy_since is not None), default=-math.inf)
    proven_at = since + want.bake_s
    if view.now >= proven_at:
        return msgspec.structs.replace(plan, proves=True)
    return msgspec.structs.replace(plan, next_check=min(plan.next_check, proven_at))
