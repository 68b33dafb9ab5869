"""Instances that are no members: of other clusters with the group's tag, and of other groups. Nothing is done to them.

Those that other groups may still be creating are among them, without an ID (see `group.elsewhere`).

They are not counted, so a group converges beside them. But they hold their logical IDs: no second instance is created
for one of these (law 2), until the instance has terminated or an operator adopts its cluster.
"""

from collections.abc import Mapping, Sequence

from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.state.others import logical_ids
from infrakit.spi import values
from infrakit.spi.token import cluster_of
from infrakit.spi.values import Description, Slot

RULE = "another-cluster"
_SHOWN_MAX = 5


def holders(instances: Sequence[Description]) -> Mapping[Slot, Description]:
    """Return the instances that have a logical ID, by that, and by the one that the token names if it is another."""
    return {Slot(logical_id): each for each in instances for logical_id in logical_ids(each)}


def of_group(instances: Sequence[Description], group: str) -> list[Description]:
    """Return those with the tag of the group: they belong to other clusters."""
    return [each for each in instances if (each.tags or {}).get(values.TAG_GROUP) == group]


def owner(instance: Description, group: str) -> str:
    """Name whose instance it is: that of another group, or of another cluster."""
    other = (instance.tags or {}).get(values.TAG_GROUP, "")
    return f"group {other}" if other != group else f"cluster {cluster_of(instance.tags)}"


def explain(builder: PlanBuilder, instances: Sequence[Description]) -> None:
    """Explain for each other cluster why its instances are not members."""
    clusters: dict[str, list[Description]] = {}
    for each in of_group(instances, builder.want.group.name):
        clusters.setdefault(cluster_of(each.tags), []).append(each)
    for cluster, found in sorted(clusters.items()):
        ids = ", ".join([each.id for each in found[:_SHOWN_MAX]] + ["..."] * (len(found) > _SHOWN_MAX))
        verb = "is not a member" if len(found) == 1 else "are not members"
        builder.block(
            builder.want.group.name,
            f"{ids} {verb}: the token names the cluster {cluster}, not this one",
            RULE,
            refused=True,
            remedy=remedy(cluster),
            key=cluster,
        )


def blocks(builder: PlanBuilder, slot: Slot) -> bool:
    """Whether an instance of another cluster or group has that logical ID; if so, add a blocked action."""
    holder, group = builder.foreign.get(slot), builder.want.group.name
    if holder is None:
        return False
    whose, other = owner(holder, group), (holder.tags or {}).get(values.TAG_GROUP, "")
    if not holder.id:
        builder.block(
            slot,
            f"the {whose} has requested an instance with logical ID {slot}, which may still be created: waiting until "
            "that is settled",
            "one-per-logical-id",
            key=f"{whose} creates",
        )
        return True
    builder.block(
        slot,
        f"logical ID {slot} is that of {holder.id}, which belongs to the {whose}: no second instance",
        "one-per-logical-id",
        refused=True,
        remedy=remedy(cluster_of(holder.tags))
        if other == group
        else f"declare {other} again and destroy it, or terminate {holder.id} at the provider",
        key=whose,
    )
    return True


def remedy(cluster: str) -> str:
    """Return what an operator can do about instances of that cluster."""
    return (
        f"declare other names or logical IDs in one of the two; if no InfraKit manages {cluster} any more: "
        f"infrakit adopt {cluster} -m WHY"
    )
