"""The metadata plugin `swarm`: the Docker Swarm of this machine's Engine, as its managers report it.

Only the fields listed here are published: no join tokens, no labels, no configuration of services. On a worker, only
the addresses of the managers are known. Without an Engine or a Swarm the tree is empty.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infrakit.spi import extras
from infrakit.spi.tree import CachedTree
from infrakit.spi.values import TAG_GROUP, TAG_LOGICAL_ID

if TYPE_CHECKING:
    from infrakit.clients.swarm import Swarm
    from infrakit.clients.swarm_values import Info, Node

SOCKET = Path("/var/run/docker.sock")  # the Engine's default socket, not the one that DOCKER_HOST names
MAX_AGE_S = 1.0


class SwarmFacts:
    """Publishes the state of the Swarm. Satisfies `spi.metadata.Metadata`. Cached for `max_age_s`."""

    def __init__(self, *, socket: Path = SOCKET, max_age_s: float = MAX_AGE_S) -> None:
        self._socket = socket
        self._tree = CachedTree(self._build, max_age_s=max_age_s)
        self._swarm: Swarm | None = None

    async def keys(self, *, path: str) -> Sequence[str] | None:
        """Return the names below `path`. Raises `Unreachable` while the Swarm has no leader."""
        return await self._tree.keys(path=path)

    async def get(self, *, path: str) -> msgspec.Raw:
        """Return the value at `path`. Raises `Unreachable` while the Swarm has no leader."""
        return await self._tree.get(path=path)

    async def close(self) -> None:
        """Close all connections. The object may be used again afterwards."""
        if self._swarm is not None:
            await self._swarm.close()

    async def _build(self) -> dict[str, Any]:
        if not self._socket.exists() or not extras.is_installed("docker"):
            return {}
        if self._swarm is None:
            from infrakit.clients.swarm import Swarm

            self._swarm = Swarm(f"unix://{self._socket}")
        info = await self._swarm.info()
        if not info.node_id:
            return {}
        if not info.control:
            return {"self": info.node_id, "managers": sorted(info.managers)}
        nodes, services = await asyncio.gather(self._swarm.nodes(), self._swarm.services())
        return tree(info, nodes, services)


def tree(info: "Info", nodes: "Sequence[Node]", services: int) -> dict[str, Any]:
    """Build the complete tree, on a manager."""
    voters = [each.manager for each in nodes if each.manager is not None]
    leader = next((each for each in nodes if each.manager is not None and each.manager.leader), None)
    return {
        "id": info.cluster_id,
        "self": info.node_id,
        "leader": {"id": leader.id, "address": leader.manager.addr} if leader and leader.manager else {},
        "managers": sorted(each.addr for each in voters if each.addr),
        "nodes": {each.id: _node(each) for each in nodes},
        "counts": {
            "nodes": len(nodes),
            "ready": sum(each.state == "ready" for each in nodes),
            "managers": len(voters),
            "reachable": sum(each.leader or each.reachability == "reachable" for each in voters),
            "workers": len(nodes) - len(voters),
            "services": services,
        },
    }


def _node(node: "Node") -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": node.hostname,
        "role": node.role,
        "state": node.state,
        "availability": node.availability,
        "address": node.manager.addr.rpartition(":")[0].strip("[]") if node.manager is not None else node.addr,
        "engine": node.engine_version,
        "group": node.engine_labels.get(TAG_GROUP, ""),
        "logical_id": node.engine_labels.get(TAG_LOGICAL_ID, ""),
    }
    if node.manager is not None:
        found |= {"leads": node.manager.leader, "reachability": node.manager.reachability}
    return {name: value for name, value in found.items() if value != ""}
