"""Health: what the Swarm's list says of the node that this very instance has become.

An instance is not blamed for what a new one would not cure: while nobody can tell, or while the managers have yet to
let it in among them, it is unknown.
"""

from collections.abc import Mapping, Sequence

from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import link
from infrakit.spi.values import Description, Health, HealthReport, State

Linked = Mapping[str, Sequence[Node]]  # nodes by their link: one, but for accidents

_BY_STATE = {
    State.PENDING: HealthReport(health=Health.UNKNOWN, note="the provider lists it as pending"),
    State.IMPAIRED: HealthReport(health=Health.UNHEALTHY, note="the provider lists it as impaired"),
    State.STOPPING: HealthReport(health=Health.UNKNOWN, note="the provider lists it as stopping"),
    State.FINISHED: HealthReport(health=Health.UNHEALTHY, note="its Engine has ended"),
    State.TERMINATED: HealthReport(health=Health.UNHEALTHY, note="the provider lists it as terminated"),
}


def verdict(instance: Description, linked: Linked, *, manager: bool) -> HealthReport:
    """About one instance."""
    if isinstance(instance.state, State) and instance.state in _BY_STATE:
        return _BY_STATE[instance.state]
    own = (instance.tags or {}).get(link.LINK)
    if not own:
        return unknown(f"it has no tag {link.LINK}, so that nobody can tell which node it is")
    found = linked.get(own, ())
    if not found:
        return _unhealthy("the Swarm does not list it; its boot script may be waiting, see its log")
    if len(found) > 1:
        return unknown(f"{len(found)} nodes are of its link: {', '.join(each.id for each in found)}")
    return _of_manager(found[0]) if manager else _of_worker(found[0])


def by_link(nodes: Sequence[Node]) -> Linked:
    """Of a machine that joined again, the nodes that it was before do not count."""
    found: dict[str, list[Node]] = {}
    for each in nodes:
        if own := each.engine_labels.get(link.LINK):
            found.setdefault(own, []).append(each)
    return {own: _current(each) for own, each in found.items()}


def _current(nodes: Sequence[Node]) -> Sequence[Node]:
    return [each for each in nodes if each.state != "down"] or sorted(nodes, key=lambda each: each.created)[-1:]


def unknown(note: str) -> HealthReport:
    """Nobody can tell."""
    return HealthReport(health=Health.UNKNOWN, note=note)


def _unhealthy(note: str) -> HealthReport:
    return HealthReport(health=Health.UNHEALTHY, note=note)


def _of_worker(node: Node) -> HealthReport:
    return _state(node) or _healthy("ready", node)


def _of_manager(node: Node) -> HealthReport:
    if wrong := _state(node):
        return wrong
    if node.manager is None:
        waits = "joins the managers" if node.role == "manager" else "waits to be made a manager"
        return unknown(f"the node {node.id} is ready, and {waits}")
    if node.manager.leader:
        return _healthy("leads", node)
    if node.manager.reachability == "reachable":
        return _healthy("reachable", node)
    if node.manager.reachability == "unreachable":
        return _unhealthy(f"the other managers do not reach the node {node.id} at {node.manager.addr}")
    return unknown(f"the leader cannot tell yet whether it reaches the node {node.id}")


def _state(node: Node) -> HealthReport | None:
    """What is wrong with it, whatever its role; None: nothing."""
    told = f": {node.message}" if node.message else ""
    if node.state == "ready":
        return None
    if node.state == "down":
        return _unhealthy(f"the node {node.id} is down{told}")
    return unknown(f"the node {node.id} is {node.state}{told}")


def _healthy(what: str, node: Node) -> HealthReport:
    beside = "" if node.availability == "active" else f", {node.availability}"
    return HealthReport(health=Health.HEALTHY, note=f"{what}{beside}")
