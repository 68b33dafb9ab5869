"""A simulated quorum: terms, elections that take time, partitions, and stale leaders that still claim leadership.

At most one node is the leader; several may claim to be. The store requires the quorum: a node in the minority cannot
read, and its writes fail or are decided later, after the caller has given up.
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

STALE_S_MAX = 10.0  # a leader that has lost its quorum may claim leadership this long
POLL_SHARE = 0.5  # a response takes at most this share of its validity
HINT_S = 0.1  # maximum delay until a member announces an election
DECIDED_S_MAX = 10.0  # maximum delay until a write without a response is decided


class Quorum:
    """The true state of the quorum, known only to the world: leader, partitions, and stale leaders."""

    def __init__(self, timeline: Timeline, nodes: Iterable[str], rng: random.Random, *, election_s: float) -> None:
        self.nodes = tuple(nodes)
        self.leader: str | None = None
        self.term = 0
        self.elections = 0
        self.stale_leaders = 0  # how many leaders kept claiming leadership after losing it
        self.watchers: list[Callable[[], None]] = []  # called up to `HINT_S` after each election
        self._timeline = timeline
        self._rng = rng
        self._election_s = election_s
        self._partitioned: set[str] = set()
        self._lost: set[str] = set()
        self._claims_until: dict[str, float] = {}
        self._previous_leader: str | None = None
        self._electing = False
        self._elect()

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def _majority(self) -> list[str]:
        """The nodes that form the majority; empty if there is none."""
        majority = [n for n in self.nodes if n not in self._partitioned and n not in self._lost]
        return majority if len(majority) * 2 > len(self.nodes) else []

    def serves(self, node: str) -> bool:
        """Whether the member on this node is part of the majority."""
        return node in self._majority

    def leads(self, node: str) -> bool:
        """Whether the member on this node claims leadership."""
        return node == self.leader or self._timeline.now < self._claims_until.get(node, 0.0)

    @property
    def claimants(self) -> list[str]:
        """The nodes that claim leadership."""
        return [n for n in self.nodes if self.leads(n)]

    # -- faults ----------------------------------------------------------------------------------------------------

    def flip(self, *, stale_s: float, at_once: bool = False) -> None:
        """Elect another leader, at once or later; the previous one keeps claiming leadership for `stale_s`."""
        self._depose(stale_s)
        if at_once and not self._electing:
            self._elected()
        else:
            self._elect()

    def partition(self, nodes: Collection[str]) -> None:
        """Cut these nodes off from the others."""
        self._partitioned = set(nodes)
        self._review()

    def lose(self, node: str) -> None:
        """Lose a node together with its member."""
        self._lost.add(node)
        self._claims_until.pop(node, None)
        if self.leader == node:
            self.leader = None
        self._review()

    def regain(self, node: str) -> None:
        self._lost.discard(node)
        self._review()

    def heal(self) -> None:
        """End the partition."""
        self.partition(())

    def _review(self) -> None:
        if self.leader is not None and self.leader not in self._majority:
            self._depose(self._rng.uniform(0.0, STALE_S_MAX))
        if self.leader is None:
            self._elect()

    def _depose(self, stale_s: float) -> None:
        if self.leader is not None and stale_s > 0.0:
            self._claims_until[self.leader] = self._timeline.now + stale_s
            self.stale_leaders += 1
        self._previous_leader, self.leader = self.leader or self._previous_leader, None

    def _elect(self) -> None:
        if not self._electing:
            self._electing = True
            takes_s = self._rng.uniform(0.1, 1.0) * self._election_s
            self._timeline.world.call_later(takes_s, self._elected)

    def _elected(self) -> None:
        self._electing = False
        majority = self._majority
        if majority:
            self.leader = self._rng.choice([n for n in majority if n != self._previous_leader] or majority)
            self._claims_until.pop(self.leader, None)
            self.term += 1
            self.elections += 1
            for watcher in self.watchers:
                self._timeline.world.call_later(self._rng.random() * HINT_S, watcher)


class Observer:
    """The leadership observer of one node: runs in the process of the replica and polls the local member."""

    def __init__(self, quorum: Quorum, node: str, rng: random.Random, *, valid_s: float) -> None:
        self.blind = False  # the member does not answer
        self._answer: asyncio.Future[bool] | None = None  # of the poll in progress; true: poll again
        quorum.watchers.append(self.hint)
        self._quorum = quorum
        self._node = node
        self._rng = rng
        self._valid_s = valid_s

    async def observe(self) -> AsyncIterator[Observation]:
        """Poll continuously, at least twice per validity of an observation."""
        loop = asyncio.get_running_loop()
        while True:
            begun_at, leads = loop.time(), self._poll()
            self._answer = loop.create_future()
            timer = loop.call_later(self._rng.uniform(0.1, POLL_SHARE) * self._valid_s, _settle, self._answer, False)
            try:
                if await self._answer:
                    begun_at, leads = loop.time(), self._poll()
            finally:
                timer.cancel()
            yield Observation(leader=leads, begun_at=begun_at, valid_s=self._valid_s)

    def _poll(self) -> bool | None:
        return None if self.blind else self._quorum.leads(self._node)

    def hint(self) -> None:
        """Poll at once: the member has announced a change."""
        if self._answer is not None:
            loop = self._answer.get_loop()
            if isinstance(loop, SteppedLoop):
                loop.receive(functools.partial(_settle, self._answer, True))

    async def resign(self) -> None:
        """Transfer leadership to another node."""
        if not self.blind and self._quorum.leader == self._node:
            self._quorum.flip(stale_s=0.0)


def _settle(answer: asyncio.Future[bool], hinted: bool) -> None:
    if not answer.done():
        answer.set_result(hinted)


class Member:
    """The store as served by the member on one node. Runs in the loop of the world."""

    def __init__(self, store: FaultyStore, quorum: Quorum, node: str, world: SteppedLoop, rng: random.Random) -> None:
        self._store = store
        self._quorum = quorum
        self._node = node
        self._world = world
        self._rng = rng
        self._undecided: set[asyncio.Task[None]] = set()
        self.deaf = False  # watches yield nothing, without an error

    def use(self, store: FaultyStore) -> None:
        """From now on, serve another store."""
        self._store = store

    async def read(self, *, name: str) -> Document:
        await self._reach()
        return await self._store.read(name=name)

    async def newest(self, *, name: str) -> int:
        await self._reach()
        return await self._store.newest(name=name)

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        await self._reach()
        return await self._store.read_with(name=name, head=head)

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
            if not self.deaf:
                yield revision

    async def close(self) -> None:
        """Do nothing: there are no resources to release."""

    async def _reach(self) -> None:
        """Require the quorum, at once or after waiting for a leader. Raises `Unreachable`."""
        if not self._quorum.serves(self._node) and self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.uniform(0.0, DECIDED_S_MAX))
        if not self._quorum.serves(self._node):
            raise errors.Unreachable("no quorum", where="store")
