"""Calls whose outcome is not known: they may still take effect, and change what a quorum can lose (laws 3 and 5).

A new leader finds the destructions and the changes of the member list that the previous leader had begun. In a group
with a quorum, neither a destruction nor another change of the list begins until such a call can no longer take effect,
and the member list has been polled after that. The destruction of the whole group waits for nothing.
"""

from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.view import GroupView


def blocking_call(want: DesiredState, view: GroupView) -> tuple[str, float]:
    """Return why no destruction may begin in a quorum, and the loop time of the next check; an empty reason: it may."""
    if not want.quorum or want.orders.destroying is not None:
        return "", 0.0
    if view.inherited:
        instance, until = next(iter(view.inherited.items()))
        return f"the previous leader was destroying {instance}, and that may still take effect", until
    if view.membership is not None and view.membership.unsettled:
        change, until = next(iter(view.membership.unsettled.items()))
        return f"the change {change} of the member list may still take effect, or is not polled yet", until
    return "", 0.0
