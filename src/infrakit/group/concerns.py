"""Whether a change of the declaration or of the commands for a group concerns a destruction in progress.

A drain may take minutes, so a command that is about something else does not cancel it. Pure.
"""

import msgspec

from infrakit.group.actions import Destroy
from infrakit.group.orders import Orders
from infrakit.group.plan.desired import DesiredState


def concerns(before: DesiredState, after: DesiredState, action: Destroy) -> bool:
    """Whether an action that was planned for `before` must be decided again for `after`."""
    if before is after:
        return False
    if msgspec.structs.replace(before, orders=Orders()) != msgspec.structs.replace(after, orders=Orders()):
        return True
    old, new, instance = before.orders, after.orders, action.instance
    if (old.halt, old.destroying) != (new.halt, new.destroying):
        return True
    if action.rule == "out-of-date" and (old.roll, old.restored) != (new.roll, new.restored):
        return True
    return _about(old, action) != _about(new, action) or old.evictions.get(instance) != new.evictions.get(instance)


def _about(orders: Orders, action: Destroy) -> tuple[bool, str]:
    instance = action.instance
    return instance in orders.despite_unhealthy, orders.incarnations.get(instance, "")
