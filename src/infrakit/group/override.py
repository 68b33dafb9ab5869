"""When an operator's override of MaxUnhealthy ends, which lets named unhealthy instances be replaced. Pure.

It is for the failure that the operator has seen. An instance that is healthy again, and fails later, fails for another
reason.
"""

from collections.abc import Mapping

from infrakit.group.orders import Orders
from infrakit.group.state.view import GroupView
from infrakit.spi.values import Health, InstanceID


def ended(orders: Orders, view: GroupView) -> Mapping[InstanceID, str]:
    """Return the instances, with their incarnations, whose override has ended: healthy again, or terminated."""
    if not orders.despite_unhealthy or view.problem:
        return {}
    return {
        instance: orders.incarnations.get(instance, "")
        for instance in orders.despite_unhealthy
        if _has_ended(orders, view, instance)
    }


def _has_ended(orders: Orders, view: GroupView, instance: InstanceID) -> bool:
    member = view.members.get(instance)
    if member is None or not orders.is_replaced_despite_unhealthy(instance, member.description.tags):
        return True
    return member.health(view.now) is Health.HEALTHY
