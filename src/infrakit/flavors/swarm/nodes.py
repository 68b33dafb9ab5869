"""The node list of the Swarm, cached for a second, so that both flavors and all groups share one request."""

import asyncio
import weakref
from collections.abc import Sequence

from infrakit.clients.swarm import Swarm
from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm.link import LINK

FRESH_S = 1.0
ABSENCE_S = 180.0  # how long a permitted absence counts; by then the node was removed, is back, or never left

_shared: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, NodeList]]" = weakref.WeakKeyDictionary()


class NodeList:
    """The node list as one Engine returns it; `swarm` is the client of that Engine, for all other requests."""

    def __init__(self, host: str) -> None:
        self.swarm = Swarm(host)
        self._listed: list[Node] = []
        self._at = float("-inf")
        self._changes = 0
        self._lock = asyncio.Lock()
        self._absent: dict[str, tuple[str, float]] = {}  # by node ID: its link at that time, and the expiry (loop time)

    async def recent(self) -> list[Node]:
        """Return the list, at most a second old. Raises what the client raises."""
        async with self._lock:
            if asyncio.get_running_loop().time() - self._at > FRESH_S:
                return await self.now()
            return self._listed

    async def now(self) -> list[Node]:
        """Request the list now. Raises what the client raises."""
        requested_at, changes = asyncio.get_running_loop().time(), self._changes
        listed = await self.swarm.nodes()
        if changes == self._changes and requested_at >= self._at:
            self._listed, self._at = listed, requested_at
        return listed

    def invalidate(self) -> None:
        """Invalidate the cache after a change, also for requests that are still in flight."""
        self._changes += 1
        self._at = float("-inf")

    def expect_absence(self, node: Node) -> None:
        """Record that the absence of this node was permitted: it may become unreachable now, and return."""
        self._absent[node.id] = node.engine_labels.get(LINK, ""), asyncio.get_running_loop().time() + ABSENCE_S

    def expected_absent(self, listed: Sequence[Node]) -> set[str]:
        """Return the IDs of the nodes whose absence was permitted and that have not returned."""
        now, links = asyncio.get_running_loop().time(), {each.id: each.engine_labels.get(LINK, "") for each in listed}
        self._absent = {
            id_: (own, until) for id_, (own, until) in self._absent.items() if now < until and links.get(id_) == own
        }
        return set(self._absent)

    async def close(self) -> None:
        """Close its connections. The object may be used again afterwards."""
        await self.swarm.close()


def shared(host: str) -> NodeList:
    """Return the node list of this Engine, one per event loop."""
    lists = _shared.setdefault(asyncio.get_running_loop(), {})
    if host not in lists:
        lists[host] = NodeList(host)
    return lists[host]
