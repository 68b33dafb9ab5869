"""Destroys a group in order: drains and destroys all members, a quorum one at a time, this controller's node last.

Of any other group, at most `MaxUnhealthy` are being destroyed at once: a halt prevents the rest.
"""

from infrakit.group.actions import Priority
from infrakit.group.plan import intents, limits
from infrakit.group.plan.builder import PlanBuilder, plural


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
    at_once = limits.at_once(builder) if others else 1  # our own node last, and alone
    left = limits.may_leave(builder, at_once)
    reason = (
        f"the group is being destroyed by {command.who}: {command.why}" if command else "the group is being destroyed"
    )
    due = others or members
    for member in due[:left]:
        builder.destroy(member, reason, "destroy-group", Priority.COLLECT)
    if rest := due[left:]:
        what = rest[0].id if len(rest) == 1 else plural(len(rest), "further instance")
        builder.block(
            rest[0].id if len(rest) == 1 else builder.want.group.name,
            f"{reason}; {what} later: at most {at_once} at once",
            "orderly-shutdown",
        )
