"""Leadership from the Swarm, observed at the Engine on this replica's node.

It is an observation, not a proof: a leader without its quorum reports itself leader for about ten more seconds. The
epoch in the store fences it off.

While the Swarm has no leader, an Engine does not answer, and a request that is already waiting returns up to a second
after the election. So each poll has a timeout, and after one without an answer, most of the following have a short one.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import SplitResult

from infrakit.clients import urls
from infrakit.clients.swarm import Swarm
from infrakit.spi import errors
from infrakit.spi.leadership import Observation

INTERVAL_S = 0.25  # from the start of one poll to the next
PAUSE_S = 0.05  # shortest pause between two polls
POLL_TIMEOUT_S = 1.0
SHORT_TIMEOUT_S = 0.2  # after a poll without an answer
LONG_TIMEOUT_EVERY = 5  # unanswered polls: then one has the long timeout again, for a slow Engine
VALID_S = 2.0
MANAGERS = {"role": ["manager"]}


class SwarmObserved:
    """Leads while the local Engine leads its Swarm; closing it closes the client."""

    form = "swarm:[///SOCKET]"

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._node = ""  # its ID in the node list

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return urls.names_engine(url)

    @classmethod
    def from_url(cls, url: SplitResult, *, name: str) -> Self:  # noqa: ARG003 - the local node has a name of its own
        return cls(urls.swarm(url))

    async def observe(self) -> AsyncIterator[Observation]:
        """Poll the Engine every `INTERVAL_S`, or later if a poll takes longer."""
        unanswered = 0
        while True:
            observation = await self._poll(SHORT_TIMEOUT_S if unanswered % LONG_TIMEOUT_EVERY else POLL_TIMEOUT_S)
            unanswered = unanswered + 1 if observation.leader is None else 0
            yield observation
            took_s = asyncio.get_running_loop().time() - observation.begun_at
            await asyncio.sleep(max(PAUSE_S, INTERVAL_S - took_s))

    async def _poll(self, deadline_s: float) -> Observation:
        begun_at = asyncio.get_running_loop().time()
        try:
            leads, who, note = await self._read(deadline_s)
        except errors.Refused as error:  # it is not a manager, so it does not lead
            self._node = ""
            leads, who, note = False, "", error.what
        except errors.InfraKitError as error:
            leads, who, note = None, "", str(error)
        return Observation(leader=leads, begun_at=begun_at, valid_s=VALID_S, who=who, note=note)

    async def _read(self, deadline_s: float) -> tuple[bool | None, str, str]:
        """Return whether the local Engine leads, the name of the leader, and the reason in words."""
        if not self._node:
            self._node = (await self._swarm.info(deadline_s=deadline_s)).node_id
        managers = await self._swarm.nodes(MANAGERS, deadline_s=deadline_s)
        if self._node not in {each.id for each in managers}:  # the node has rejoined, or is being demoted
            self._node = ""
            return None, "", "the local Engine is not among the managers of its Swarm"
        for each in managers:
            if each.manager is not None and each.manager.leader:
                leads = each.id == self._node
                note = "the local Engine leads the Swarm" if leads else f"the node {each.hostname} leads the Swarm"
                return leads, each.hostname, note
        return False, "", "the Swarm has no leader"

    async def close(self) -> None:
        """Close the connections."""
        await self._swarm.close()
