"""The heartbeat of the replica on the leader's node: if it stops, the other replicas move the leadership.

The cluster elects another leader when a node fails, and not when only the replica there hangs or cannot be started. So
the replica whose node leads counts a beat in the store while it makes progress. A follower that has read the same beat
`MISSED_MAX` times in a row adds itself to that document. Once most followers are in it, and at least two, one of them
asks the leadership source to move the leadership to its own node. The next beat removes them from the document.

No wall clock is compared, and a follower that was stopped itself has counted nothing meanwhile. Without its quorum the
store answers no read, so nothing is counted. The epoch fences off a replica that continues later.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection

import msgspec

from infrakit.manager.lead.ledger import STORE_DEADLINE_S
from infrakit.spi import errors, formats
from infrakit.spi.leadership import Observation
from infrakit.spi.store import Store
from infrakit.spi.values import Wire

NAME = "heartbeat"
BEAT_S = 10.0
MISSED_MAX = 6
AGREEING_MIN = 2  # one follower may be wrong


class HeartbeatDocument(Wire, frozen=True, kw_only=True):
    """The stored document."""

    format: int = formats.FORMAT
    leader: str = ""  # the node that leads, as the leadership source names it
    replica: str = ""  # the replica there, which wrote the beat
    beat: int = 0
    silent: dict[str, str] = msgspec.field(default_factory=dict)  # by follower: the leader whose beat it misses


class Heartbeat:
    """The heartbeat of one replica, and its attention to that of the leader."""

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        observed: Callable[[], Observation | None],
        progresses: Callable[[], bool],
        replicas: Callable[[], Awaitable[Collection[str]]],
        take_over: Callable[[str], Awaitable[None]],
    ) -> None:
        """`observed` returns an observation that is still valid; `replicas` the names of all of them.

        `replicas` returns none while one of them is of a release without a heartbeat. `take_over` moves the leadership
        from the node that is named to this one.
        """
        self._store = store
        self._name = name
        self._observed = observed
        self._progresses = progresses
        self._replicas = replicas
        self._take_over = take_over
        self._seen = ("", 0)  # the leader and the beat of the last read
        self._missed = 0

    async def run(self) -> None:
        """Beat, or listen, until cancelled. A store that does not answer is read again after `BEAT_S`."""
        while True:
            with contextlib.suppress(errors.InfraKitError, TimeoutError):
                async with asyncio.timeout(STORE_DEADLINE_S):
                    await self.step()
            await asyncio.sleep(BEAT_S)

    async def step(self) -> None:
        """Beat once if this node leads, else read the beat once. Raises what the store or the source raises."""
        observation = self._observed()
        if observation is None or not observation.who:
            self._missed = 0
            return
        read = await self._store.read(name=NAME)
        found = formats.decode(read.body, HeartbeatDocument, "heartbeat")
        if observation.leader:
            self._missed = 0
            if self._progresses():
                beat = HeartbeatDocument(leader=observation.who, replica=self._name, beat=found.beat + 1)
                await self._write(beat, read.revision)
        elif self._misses(observation.who, found.beat):
            await self._agree(observation.who, found, read.revision)

    def _misses(self, leader: str, beat: int) -> bool:
        self._missed = self._missed + 1 if self._seen == (leader, beat) else 0
        self._seen = (leader, beat)
        return self._missed >= MISSED_MAX

    async def _agree(self, leader: str, found: HeartbeatDocument, revision: int) -> None:
        """Record that this follower misses the beat; if most followers do, move the leadership."""
        silent = {name: about for name, about in found.silent.items() if about == leader} | {self._name: leader}
        if silent != found.silent:
            await self._write(msgspec.structs.replace(found, silent=silent), revision)
        followers = set(await self._replicas()) - ({found.replica} if found.leader == leader else set())
        agreeing = len(followers & silent.keys())
        if agreeing >= AGREEING_MIN and agreeing * 2 > len(followers):
            await self._take_over(leader)

    async def _write(self, document: HeartbeatDocument, revision: int) -> None:
        await self._store.replace(name=NAME, body=msgspec.json.encode(document), expected=revision)
