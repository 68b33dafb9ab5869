"""Destroys a group in order: drains and destroys all members, a quorum one at a time, this controller's node last."""

from infrakit.group.actions import Priority
from infrakit.group.plan import intents
from infrakit.group.plan.builder import PlanBuilder


def destroy_all(builder: PlanBuilder) -> None:
    """Destroy all members, and settle unresolved intents, so that no instance is left behind unmanaged."""
    command = builder.want.orders.destroying
    builder.unwanted.update(builder.view.pending.keys() - builder.settled)
    intents.resolve(builder)
    members = [m for m in builder.view.members.values() if not m.leaving]
    members.sort(key=lambda m: (m.is_self, m.slot or "", m.id))
    if not members:
        if not builder.view.members and not builder.view.pending:
            name = builder.want.group.name
            builder.block(name, "no instance is listed: waiting for a second listing that confirms it", "destroy-group")
        return
    others = [m for m in members if not m.is_self]
    one_by_one = builder.want.quorum or not others
    busy = any(m.leaving for m in builder.view.members.values())
    reason = (
        f"the group is being destroyed by {command.who}: {command.why}" if command else "the group is being destroyed"
    )
    for index, member in enumerate(others or members):
        if one_by_one and (busy or index > 0):
            builder.block(member.id, f"{reason}; one at a time", "orderly-shutdown")
        else:
            builder.destroy(member, reason, "destroy-group", Priority.COLLECT)
