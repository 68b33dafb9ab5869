"""The orderly end of a group: everything drained and destroyed, a quorum member by member, our own node last."""

from infrakit.group.actions import Priority
from infrakit.group.plan import intents
from infrakit.group.plan.draft import Draft


def destroy_all(draft: Draft) -> None:
    """Destroy all members; unresolved intents are settled first, so that nothing is left behind unseen."""
    order = draft.want.orders.destroying
    draft.unwanted.update(draft.view.pending.keys() - draft.settled)
    intents.resolve(draft)
    members = [m for m in draft.view.members.values() if not m.leaving]
    members.sort(key=lambda m: (m.is_self, m.slot or "", m.id))
    if not members:
        return
    others = [m for m in members if not m.is_self]
    one_by_one = draft.want.quorum or not others
    busy = any(m.leaving for m in draft.view.members.values())
    reason = f"the group is being destroyed by {order.who}: {order.why}" if order else "the group is being destroyed"
    for index, member in enumerate(others or members):
        if one_by_one and (busy or index > 0):
            draft.hold(member.id, f"{reason}; one at a time", "orderly-end")
        else:
            draft.destroy(member, reason, "destroy-group", Priority.COLLECT)
