"""The Swarm's list of nodes, read once for all who look at the same moment: both flavors, and every group."""

import asyncio
import weakref
from collections.abc import Sequence

from infrakit.clients.swarm import Swarm
from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm.link import LINK

FRESH_S = 1.0
SPARED_S = 180.0  # until a machine that was let go looks gone, or is found to have stayed

_shared: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, NodeList]]" = weakref.WeakKeyDictionary()


class NodeList:
    """The list as one Engine tells it; `swarm` is its client, for everything else."""

    def __init__(self, host: str) -> None:
        self.swarm = Swarm(host)
        self._listed: list[Node] = []
        self._at = float("-inf")
        self._changes = 0
        self._turn = asyncio.Lock()
        self._spared: dict[str, tuple[str, float]] = {}  # by node: its link then, and until when it counts (loop time)

    async def recent(self) -> list[Node]:
        """Not older than a second. Raises what the client raises."""
        async with self._turn:
            if asyncio.get_running_loop().time() - self._at > FRESH_S:
                return await self.now()
            return self._listed

    async def now(self) -> list[Node]:
        """Asked for now. Raises what the client raises."""
        asked_at, changes = asyncio.get_running_loop().time(), self._changes
        listed = await self.swarm.nodes()
        if changes == self._changes and asked_at >= self._at:
            self._listed, self._at = listed, asked_at
        return listed

    def forget(self) -> None:
        """Something was changed: whoever looks next asks, and what was asked before that is not kept."""
        self._changes += 1
        self._at = float("-inf")

    def spare(self, node: Node) -> None:
        """Somebody was told that this machine may go, and come back."""
        self._spared[node.id] = node.engine_labels.get(LINK, ""), asyncio.get_running_loop().time() + SPARED_S

    def spared(self, listed: Sequence[Node]) -> set[str]:
        """IDs of those that may be on their way, and have not come back."""
        now, links = asyncio.get_running_loop().time(), {each.id: each.engine_labels.get(LINK, "") for each in listed}
        self._spared = {
            id_: (own, until) for id_, (own, until) in self._spared.items() if now < until and links.get(id_) == own
        }
        return set(self._spared)

    async def close(self) -> None:
        """End its connections. The object may be used again afterwards."""
        await self.swarm.close()


def shared(host: str) -> NodeList:
    """The one of this event loop."""
    lists = _shared.setdefault(asyncio.get_running_loop(), {})
    if host not in lists:
        lists[host] = NodeList(host)
    return lists[host]
