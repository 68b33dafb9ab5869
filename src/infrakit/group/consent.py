"""The consent of an operator to replace unhealthy instances although more than MaxUnhealthy are: when it is over. Pure.

It is for the failure that the operator has seen. An instance that is healthy again, and fails later, fails for another
reason.
"""

from collections.abc import Mapping

from infrakit.group.orders import Orders
from infrakit.group.state.view import GroupView
from infrakit.spi.values import Health, InstanceID


def over(orders: Orders, view: GroupView) -> Mapping[InstanceID, str]:
    """Return the instances, with their incarnations, whose consent is over: healthy again, or no longer there."""
    if not orders.despite_unhealthy or view.problem:
        return {}
    return {
        instance: orders.incarnations.get(instance, "")
        for instance in orders.despite_unhealthy
        if _is_over(orders, view, instance)
    }


def _is_over(orders: Orders, view: GroupView, instance: InstanceID) -> bool:
    member = view.members.get(instance)
    if member is None or not orders.is_replaced_despite_unhealthy(instance, member.description.tags):
        return True
    return member.health(view.now) is Health.HEALTHY
