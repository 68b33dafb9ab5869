"""The arithmetic of the managers' quorum. The Swarm's own list counts: one that is dead and listed weighs too."""

from collections.abc import Collection, Sequence

import msgspec

from infrakit.clients.swarm_values import Node


def needed(managers: int) -> int:
    """How many of so many have to work."""
    return managers // 2 + 1


def members(nodes: Sequence[Node]) -> list[Node]:
    """Those that have a vote."""
    return [each for each in nodes if each.manager is not None]


def is_able(node: Node) -> bool:
    """Whether its vote can be counted on."""
    return node.manager is not None and (node.manager.leader or node.manager.reachability == "reachable")


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the managers without one of them."""

    able: int
    total: int  # how many the quorum is counted from
    silent: tuple[str, ...]  # nodes that do not answer

    @property
    def is_enough(self) -> bool:
        return self.able >= needed(self.total)

    def __str__(self) -> str:
        told = f" (not reachable, or let go: {', '.join(self.silent)})" if self.silent else ""
        return f"{self.able} of {self.total} managers would work, and the quorum needs {needed(self.total)}{told}"


def away(nodes: Sequence[Node], node: Node, *, going: Collection[str] = ()) -> Rest:
    """While it is gone, and still listed; `going` are IDs of others that were let go, and may not look so yet."""
    return _rest(nodes, node, len(members(nodes)), going)


def removed(nodes: Sequence[Node], node: Node, *, going: Collection[str] = ()) -> Rest:
    """After it has been taken off the managers; `going` as above."""
    return _rest(nodes, node, len(members(nodes)) - 1, going)


def _rest(nodes: Sequence[Node], node: Node, total: int, going: Collection[str] = ()) -> Rest:
    others = [each for each in members(nodes) if each.id != node.id]
    silent = tuple(each.hostname or each.id for each in others if not is_able(each) or each.id in going)
    return Rest(able=len(others) - len(silent), total=total, silent=silent)
