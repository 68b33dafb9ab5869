"""Health: the state of the node of an instance, as the node list of the Swarm shows it.

An instance is unhealthy only if replacing it would help. While the state of its node is not known, or while it waits
for its promotion to manager, it is unknown.
"""

from collections.abc import Mapping, Sequence

from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import link
from infrakit.spi.flavor import health_by_state
from infrakit.spi.values import Description, Health, HealthReport, State

Linked = Mapping[str, Sequence[Node]]  # nodes by their link; normally one each

_BY_STATE = health_by_state(finished=HealthReport(health=Health.UNHEALTHY, note="its Engine has exited"))


def verdict(instance: Description, linked: Linked, *, manager: bool) -> HealthReport:
    """Return the verdict on one instance."""
    if isinstance(instance.state, State) and instance.state in _BY_STATE:
        return _BY_STATE[instance.state]
    own = (instance.tags or {}).get(link.LINK)
    if not own:
        return unknown(f"it has no tag {link.LINK}, so its node cannot be identified")
    found = linked.get(own, ())
    if not found:
        return _unhealthy("it is not in the node list of the Swarm; its boot script may be waiting, see its log")
    if len(found) > 1:
        return unknown(f"{len(found)} nodes have its link: {', '.join(each.id for each in found)}")
    return _of_manager(found[0]) if manager else _of_worker(found[0])


def by_link(nodes: Sequence[Node]) -> Linked:
    """Group nodes by their link, without the earlier nodes, which are down, of a machine that has rejoined."""
    found: dict[str, list[Node]] = {}
    for each in nodes:
        if own := each.engine_labels.get(link.LINK):
            found.setdefault(own, []).append(each)
    return {own: _current(each) for own, each in found.items()}


def _current(nodes: Sequence[Node]) -> Sequence[Node]:
    return [each for each in nodes if each.state != "down"] or sorted(nodes, key=lambda each: each.created)[-1:]


def unknown(note: str) -> HealthReport:
    """Report that the health is unknown."""
    return HealthReport(health=Health.UNKNOWN, note=note)


def _unhealthy(note: str) -> HealthReport:
    return HealthReport(health=Health.UNHEALTHY, note=note)


def _of_worker(node: Node) -> HealthReport:
    return _state(node) or _healthy("ready", node)


def _of_manager(node: Node) -> HealthReport:
    if report := _state(node):
        return report
    if node.manager is None:
        state = "is being promoted" if node.role == "manager" else "waits for its promotion"
        return unknown(f"the node {node.id} is ready, and {state} to manager")
    if node.manager.leader:
        return _healthy("leads", node)
    if node.manager.reachability == "reachable":
        return _healthy("reachable", node)
    if node.manager.reachability == "unreachable":
        return _unhealthy(f"the other managers do not reach the node {node.id} at {node.manager.addr}")
    return unknown(f"the leader does not know yet whether the node {node.id} is reachable")


def _state(node: Node) -> HealthReport | None:
    """Return the verdict on a node that is not ready, whatever its role; None if it is ready."""
    detail = f": {node.message}" if node.message else ""
    if node.state == "ready":
        return None
    if node.state == "down":
        return _unhealthy(f"the node {node.id} is down{detail}")
    return unknown(f"the node {node.id} is {node.state}{detail}")


def _healthy(what: str, node: Node) -> HealthReport:
    availability = "" if node.availability == "active" else f", {node.availability}"
    return HealthReport(health=Health.HEALTHY, note=f"{what}{availability}")
