"""The quorum of the managers, counted from the node list of the Swarm: a failed manager that is listed counts too."""

from collections.abc import Collection, Sequence

import msgspec

from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import link
from infrakit.spi.flavor import Voter
from infrakit.spi.quorum import majority
from infrakit.spi.values import TAG_LOGICAL_ID, Description, InstanceID


def members(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that have a vote."""
    return [each for each in nodes if each.manager is not None]


def is_available(node: Node) -> bool:
    """Whether its vote is available: it leads, or the leader reaches it."""
    return node.manager is not None and (node.manager.leader or node.manager.reachability == "reachable")


def voters(nodes: Sequence[Node], instances: Sequence[Description]) -> list[Voter]:
    """Return the managers; one belongs to the instance that has its link, or else to those with its logical ID."""
    return [
        Voter(
            id=node.id,
            name=node.engine_labels.get(TAG_LOGICAL_ID) or node.hostname,
            address=node.manager.addr,
            instances=_instances_of(node, instances),
            healthy=is_available(node) or (False if node.manager.reachability == "unreachable" else None),
        )
        for node in nodes
        if node.manager is not None
    ]


def _instances_of(node: Node, instances: Sequence[Description]) -> tuple[InstanceID, ...]:
    own, name = node.engine_labels.get(link.LINK), node.engine_labels.get(TAG_LOGICAL_ID)
    linked = tuple(each.id for each in instances if own and link.of(each) == own)
    return linked or tuple(each.id for each in instances if name and link.logical_id(each) == name)


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """The managers that remain without one of them."""

    available: int
    total: int  # the number from which the quorum is counted
    unavailable: tuple[str, ...]  # names of managers that are unreachable, or expected to be absent

    @property
    def is_enough(self) -> bool:
        return self.available >= majority(self.total)

    def __str__(self) -> str:
        named = f" (unreachable or leaving: {', '.join(self.unavailable)})" if self.unavailable else ""
        count = f"{self.available} of {self.total} managers would be available"
        return f"{count}, and the quorum needs {majority(self.total)}{named}"


def while_absent(nodes: Sequence[Node], node: Node, *, leaving: Collection[str] = ()) -> Rest:
    """Count the others while `node` is absent but listed. `leaving`: IDs of others whose absence may not show yet."""
    return _rest(nodes, node, len(members(nodes)), leaving)


def after_removal(nodes: Sequence[Node], node: Node, *, leaving: Collection[str] = ()) -> Rest:
    """Count the others after `node` has been removed from the managers; for `leaving` see `while_absent`."""
    return _rest(nodes, node, len(members(nodes)) - 1, leaving)


def _rest(nodes: Sequence[Node], node: Node, total: int, leaving: Collection[str] = ()) -> Rest:
    others = [each for each in members(nodes) if each.id != node.id]
    unavailable = tuple(each.hostname or each.id for each in others if not is_available(each) or each.id in leaving)
    return Rest(available=len(others) - len(unavailable), total=total, unavailable=unavailable)
