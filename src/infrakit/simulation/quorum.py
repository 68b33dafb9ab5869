"""A simulated quorum: terms, elections that take a while, partitions, leaders that do not know that they are none.

One node leads at most; several may believe that they do. The store stands behind the quorum: who is on the side of the
minority cannot read, and a write from there fails, or is decided later, when nobody waits for it any more.
"""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

from infrakit.simulation.loops import SteppedLoop, Timeline
from infrakit.simulation.parts import FaultyStore
from infrakit.spi import errors
from infrakit.spi.leadership import Observation
from infrakit.spi.store import Document

STALE_S_MAX = 10.0  # a leader that has lost its quorum reports itself leader for so long
LOOK_SHARE = 0.5  # of its validity may pass until an answer is there
HINT_S = 0.1  # until a member tells that it has heard of an election, at the most
DECIDED_S_MAX = 10.0  # until the fate of a write is decided that got no answer


class Quorum:
    """Who leads, who is cut off, who believes what. All of it is the truth, known to the world only."""

    def __init__(self, timeline: Timeline, nodes: Iterable[str], rng: random.Random, *, election_s: float) -> None:
        self.nodes = tuple(nodes)
        self.leader: str | None = None
        self.term = 0
        self.elections = 0
        self.stale = 0  # leaders that went on believing
        self.watchers: list[Callable[[], None]] = []  # told a moment after each election
        self._timeline = timeline
        self._rng = rng
        self._election_s = election_s
        self._apart: set[str] = set()
        self._lost: set[str] = set()
        self._believes_until: dict[str, float] = {}
        self._deposed: str | None = None
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

    def flip(self, *, stale_s: float, at_once: bool = False) -> None:
        """Another leads, after an election or at once; the leader until now says for a while longer that it does."""
        self._depose(stale_s)
        if at_once and not self._electing:
            self._elected()
        else:
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
            self._depose(self._rng.uniform(0.0, STALE_S_MAX))
        if self.leader is None:
            self._elect()

    def _depose(self, stale_s: float) -> None:
        if self.leader is not None and stale_s > 0.0:
            self._believes_until[self.leader] = self._timeline.now + stale_s
            self.stale += 1
        self._deposed, self.leader = self.leader or self._deposed, None

    def _elect(self) -> None:
        if not self._electing:
            self._electing = True
            takes_s = self._rng.uniform(0.1, 1.0) * self._election_s
            self._timeline.world.call_later(takes_s, self._elected)

    def _elected(self) -> None:
        self._electing = False
        together = self._together
        if together:
            self.leader = self._rng.choice([n for n in together if n != self._deposed] or together)
            self._believes_until.pop(self.leader, None)
            self.term += 1
            self.elections += 1
            for watcher in self.watchers:
                self._timeline.world.call_later(self._rng.random() * HINT_S, watcher)


class Observer:
    """The leadership observer of one node, in the replica's own process: it asks the member beside it."""

    def __init__(self, quorum: Quorum, node: str, rng: random.Random, *, valid_s: float) -> None:
        self.blind = False  # the member does not answer
        self._answer: asyncio.Future[bool] | None = None  # to the look under way; true: ask again
        quorum.watchers.append(self.hint)
        self._quorum = quorum
        self._node = node
        self._rng = rng
        self._valid_s = valid_s

    async def observe(self) -> AsyncIterator[Observation]:
        """One look after another, each twice in the time for which one is valid, at the least."""
        loop = asyncio.get_running_loop()
        while True:
            begun_at, leads = loop.time(), self._look()
            self._answer = loop.create_future()
            timer = loop.call_later(self._rng.uniform(0.1, LOOK_SHARE) * self._valid_s, _settle, self._answer, False)
            try:
                if await self._answer:
                    begun_at, leads = loop.time(), self._look()
            finally:
                timer.cancel()
            yield Observation(leader=leads, begun_at=begun_at, valid_s=self._valid_s)

    def _look(self) -> bool | None:
        return None if self.blind else self._quorum.leads(self._node)

    def hint(self) -> None:
        """The member says that something has changed: look at once."""
        if self._answer is not None:
            loop = self._answer.get_loop()
            if isinstance(loop, SteppedLoop):
                loop.receive(functools.partial(_settle, self._answer, True))

    async def resign(self) -> None:
        """Let another node lead."""
        if not self.blind and self._quorum.leader == self._node:
            self._quorum.flip(stale_s=0.0)


def _settle(answer: asyncio.Future[bool], hinted: bool) -> None:
    if not answer.done():
        answer.set_result(hinted)


class Member:
    """The store as the member of one node serves it. Runs in the world's loop."""

    def __init__(self, store: FaultyStore, quorum: Quorum, node: str, world: SteppedLoop, rng: random.Random) -> None:
        self._store = store
        self._quorum = quorum
        self._node = node
        self._world = world
        self._rng = rng
        self._undecided: set[asyncio.Task[None]] = set()

    async def read(self, *, name: str) -> Document:
        await self._reach()
        return await self._store.read(name=name)

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        await self._reach()
        return await self._store.history(name=name, limit=limit)

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if not self._quorum.serves(self._node) and self._rng.random() < 0.5:
            task = self._world.create_task(self._decide(name, body, expected))
            self._undecided.add(task)
            task.add_done_callback(self._undecided.discard)
            await asyncio.sleep(self._rng.uniform(0.0, DECIDED_S_MAX / 2))
            raise errors.OutcomeUnknown("the leader has lost its quorum", where="store")
        await self._reach()
        return await self._store.replace(name=name, body=body, expected=expected)

    async def _decide(self, name: str, body: bytes, expected: int) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, DECIDED_S_MAX))
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
        if not self._quorum.serves(self._node) and self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.uniform(0.0, DECIDED_S_MAX))
        if not self._quorum.serves(self._node):
            raise errors.Unreachable("no quorum", where="store")
