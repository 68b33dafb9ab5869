"""Leadership as the Swarm knows it, seen from the Engine beside this replica.

An observation, no proof: a leader that has lost its quorum reports itself leader for about ten seconds more. The epoch
in the store is what fences it off.

While nobody leads, an Engine does not answer; and of a look that waits already, it notices only within a second that
somebody does. So each look has a deadline, and when one had no answer, most of the next are given up soon.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import SplitResult

from infrakit.clients import urls
from infrakit.clients.swarm import Swarm
from infrakit.spi import errors
from infrakit.spi.leadership import Observation

INTERVAL_S = 0.25  # from one look to the next
PAUSE_S = 0.05  # between the end of one and the next, at least
LOOK_S = 1.0  # until one is given up,
SHORT_S = 0.2  # or sooner, while there is no answer
LONG_EACH = 5  # looks: who is slow is heard, too
VALID_S = 2.0
MANAGERS = {"role": ["manager"]}


class SwarmObserved:
    """Leads when the local Engine leads its Swarm; it closes its client with itself."""

    form = "swarm:[///SOCKET]"

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._node = ""  # which one it is, on the Swarm's list

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return urls.names_engine(url)

    @classmethod
    def from_url(cls, url: SplitResult, *, name: str) -> Self:  # noqa: ARG003 - the local node has a name of its own
        return cls(urls.swarm(url))

    async def observe(self) -> AsyncIterator[Observation]:
        """A look every `INTERVAL_S`, or a little later."""
        unanswered = 0
        while True:
            seen = await self._look(SHORT_S if unanswered % LONG_EACH else LOOK_S)
            unanswered = unanswered + 1 if seen.leader is None else 0
            yield seen
            took_s = asyncio.get_running_loop().time() - seen.begun_at
            await asyncio.sleep(max(PAUSE_S, INTERVAL_S - took_s))

    async def _look(self, deadline_s: float) -> Observation:
        begun_at = asyncio.get_running_loop().time()
        try:
            leads, who, note = await self._see(deadline_s)
        except errors.Refused as error:  # it is no manager: then it does not lead, for sure
            self._node = ""
            leads, who, note = False, "", error.what
        except errors.InfraKitError as error:
            leads, who, note = None, "", str(error)
        return Observation(leader=leads, begun_at=begun_at, valid_s=VALID_S, who=who, note=note)

    async def _see(self, deadline_s: float) -> tuple[bool | None, str, str]:
        """Whether it leads, who does, and that in words."""
        if not self._node:
            self._node = (await self._swarm.info(deadline_s=deadline_s)).node_id
        managers = await self._swarm.nodes(MANAGERS, deadline_s=deadline_s)
        if self._node not in {each.id for each in managers}:  # it has joined anew, or is being demoted
            self._node = ""
            return None, "", "the local Engine is not among the managers of its Swarm"
        for each in managers:
            if each.manager is not None and each.manager.leader:
                leads = each.id == self._node
                note = "the local Engine leads the Swarm" if leads else f"the node {each.hostname} leads the Swarm"
                return leads, each.hostname, note
        return False, "", "the Swarm has no leader"

    async def close(self) -> None:
        """Let go of its connections."""
        await self._swarm.close()
