"""A simulated quorum: terms, elections that take a while, partitions, leaders that do not know that they are none.

One node leads at most; several may believe that they do. The store stands behind the quorum: who is on the side of the
minority cannot read, and a write from there fails, or is decided later, when nobody waits for it any more.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

from infrakit.simulation.loops import SteppedLoop, Timeline
from infrakit.simulation.parts import FaultyStore
from infrakit.spi import errors
from infrakit.spi.leadership import Observation
from infrakit.spi.store import Document

STALE_S_MAX = 10.0  # a leader that has lost its quorum reports itself leader for so long
LOOK_TAKES_S = 0.2  # at the most
DECIDED_S_MAX = 10.0  # until the fate of a write is decided that got no answer


class Quorum:
    """Who leads, who is cut off, who believes what. All of it is the truth, known to the world only."""

    def __init__(self, timeline: Timeline, nodes: Iterable[str], chance: random.Random, *, election_s: float) -> None:
        self.nodes = tuple(nodes)
        self.leader: str | None = None
        self.term = 0
        self.elections = 0
        self.stale = 0  # leaders that went on believing
        self._timeline = timeline
        self._chance = chance
        self._election_s = election_s
        self._apart: set[str] = set()
        self._lost: set[str] = set()
        self._believes_until: dict[str, float] = {}
        self._electing = False
        self._elect()

    # -- what is so ------------------------------------------------------------------------------------------------

    @property
    def _together(self) -> list[str]:
        """The nodes that form the majority, if there is one."""
        together = [n for n in self.nodes if n not in self._apart and n not in self._lost]
        return together if len(together) * 2 > len(self.nodes) else []

    def serves(self, node: str) -> bool:
        """Whether the node's member can answer for the quorum."""
        return node in self._together

    def leads(self, node: str) -> bool:
        """What the node's member says of itself."""
        return node == self.leader or self._timeline.now < self._believes_until.get(node, 0.0)

    @property
    def believers(self) -> list[str]:
        """The nodes that lead, as they say themselves."""
        return [n for n in self.nodes if self.leads(n)]

    # -- what befalls it -------------------------------------------------------------------------------------------

    def flip(self, *, stale_s: float) -> None:
        """Another election; the leader until now says for a while longer that it leads."""
        self._depose(stale_s)
        self._elect()

    def part(self, nodes: Collection[str]) -> None:
        """Cut these nodes off from the others."""
        self._apart = set(nodes)
        self._review()

    def lose(self, node: str) -> None:
        """The node is gone, with its member."""
        self._lost.add(node)
        self._believes_until.pop(node, None)
        if self.leader == node:
            self.leader = None
        self._review()

    def regain(self, node: str) -> None:
        self._lost.discard(node)
        self._review()

    def mend(self) -> None:
        """No node is cut off any more."""
        self.part(())

    def _review(self) -> None:
        if self.leader is not None and self.leader not in self._together:
            self._depose(self._chance.uniform(0.0, STALE_S_MAX))
        if self.leader is None:
            self._elect()

    def _depose(self, stale_s: float) -> None:
        if self.leader is not None and stale_s > 0.0:
            self._believes_until[self.leader] = self._timeline.now + stale_s
            self.stale += 1
        self.leader = None

    def _elect(self) -> None:
        if not self._electing:
            self._electing = True
            takes_s = self._chance.uniform(0.1, 1.0) * self._election_s
            self._timeline.world.call_later(takes_s, self._elected)

    def _elected(self) -> None:
        self._electing = False
        together = self._together
        if together:
            self.leader = self._chance.choice(together)
            self._believes_until.pop(self.leader, None)
            self.term += 1
            self.elections += 1


class Observer:
    """The leadership observer of one node, in the replica's own process: it asks the member beside it."""

    def __init__(self, quorum: Quorum, node: str, chance: random.Random, *, valid_s: float) -> None:
        self.blind = False  # the member does not answer
        self._quorum = quorum
        self._node = node
        self._chance = chance
        self._valid_s = valid_s

    async def observe(self) -> AsyncIterator[Observation]:
        """A look twice in the time for which one is valid, at the least."""
        while True:
            begun_at = asyncio.get_running_loop().time()
            leads = None if self.blind else self._quorum.leads(self._node)
            await asyncio.sleep(self._chance.random() * LOOK_TAKES_S)
            yield Observation(leader=leads, begun_at=begun_at, valid_s=self._valid_s)
            await asyncio.sleep(self._chance.uniform(0.2, 0.4) * self._valid_s)

    async def resign(self) -> None:
        """Let another node lead."""
        if not self.blind and self._quorum.leader == self._node:
            self._quorum.flip(stale_s=0.0)


class Member:
    """The store as the member of one node serves it. Runs in the world's loop."""

    def __init__(self, store: FaultyStore, quorum: Quorum, node: str, world: SteppedLoop, chance: random.Random) -> None:
        self._store = store
        self._quorum = quorum
        self._node = node
        self._world = world
        self._chance = chance
        self._undecided: set[asyncio.Task[None]] = set()

    async def read(self, *, name: str) -> Document:
        await self._reach()
        return await self._store.read(name=name)

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        await self._reach()
        return await self._store.history(name=name, limit=limit)

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if not self._quorum.serves(self._node) and self._chance.random() < 0.5:
            task = self._world.create_task(self._decide(name, body, expected))
            self._undecided.add(task)
            task.add_done_callback(self._undecided.discard)
            await asyncio.sleep(self._chance.uniform(0.0, DECIDED_S_MAX / 2))
            raise errors.OutcomeUnknown("the leader has lost its quorum", where="store")
        await self._reach()
        return await self._store.replace(name=name, body=body, expected=expected)

    async def _decide(self, name: str, body: bytes, expected: int) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, DECIDED_S_MAX))
        if self._quorum.serves(self._node):
            try:
                await self._store.replace(name=name, body=body, expected=expected)
            except errors.InfraKitError:
                return

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        await self._reach()
        async for revision in self._store.watch(name=name):
            if not self._quorum.serves(self._node):
                raise errors.Unreachable("the member has no leader", where="store")
            yield revision

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _reach(self) -> None:
        """Some members refuse at once, some wait for a leader. Raises `Unreachable`."""
        if not self._quorum.serves(self._node) and self._chance.random() < 0.5:
            await asyncio.sleep(self._chance.uniform(0.0, DECIDED_S_MAX))
        if not self._quorum.serves(self._node):
            raise errors.Unreachable("no quorum", where="store")
