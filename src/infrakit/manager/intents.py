"""The ledger: the epoch, and every creation that may be under way (laws 1 and 3).

One document in the store. Becoming active is a compare-and-swap that raises the epoch in it; every batch of intents is
another one. So a predecessor that is still running loses its next write, learns that it was replaced, and stops: no
creation is ever begun that the newest epoch has not recorded.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping

import msgspec

from infrakit.group.ledger import Intent
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.store import Document, Store
from infrakit.spi.values import Epoch, GroupID, Slot, Token, Wire

NAME = "ledger"
FORMAT = 1
STORE_DEADLINE_S = 15.0
ATTEMPTS_MAX = 5


class Book(Wire, frozen=True, kw_only=True):
    """The document. `cluster` tells this store's tokens from those of any other."""

    format: int = FORMAT
    cluster: str = ""
    epoch: int = 0
    owner: str = ""
    intents: dict[GroupID, dict[Slot, Intent]] = msgspec.field(default_factory=dict)


class StoredLedger:
    """The ledger of one epoch; satisfies `group.ledger.Ledger`."""

    def __init__(self, store: Store, *, owner: str, clock: Clock, random: random.Random) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock
        self._random = random
        self._book = Book()
        self._revision = 0
        self._lost = "it has not become active"
        self._turn = asyncio.Lock()

    @property
    def epoch(self) -> Epoch:
        return Epoch(self._book.epoch)

    async def open(self) -> None:
        """Take the next epoch. Raises `Unreachable`, `Conflict` when others keep taking it first, or `Refused`."""
        for _attempt in range(ATTEMPTS_MAX):
            document, found = await self._load()
            cluster = found.cluster or f"{self._random.getrandbits(32):08x}"
            book = msgspec.structs.replace(found, epoch=found.epoch + 1, owner=self._owner, cluster=cluster)
            self._revision, self._book = document.revision, book
            try:
                await self._write(book)
            except (errors.NotLeader, errors.Unreachable):
                continue
            self._lost = ""
            return
        raise errors.Conflict("other replicas keep taking the epoch", where="ledger", remedy="see: infrakit status")

    async def check_store(self) -> None:
        """Raises `Refused` if the ledger is damaged or of a format from the future."""
        await self._load()

    async def _load(self) -> tuple[Document, Book]:
        async with asyncio.timeout(STORE_DEADLINE_S):
            document = await self._store.read(name=NAME)
        return document, _decode(document.body)

    def intents(self, group: GroupID) -> Mapping[Slot, Intent]:
        return self._book.intents.get(group, {})

    def check(self) -> None:
        if self._lost:
            raise errors.NotLeader(f"this replica may not act: {self._lost}")

    def resign(self, why: str) -> None:
        """From now on nothing may be done in the name of this epoch."""
        self._lost = self._lost or why

    async def record(
        self, group: GroupID, *, wanted: Mapping[Slot, str], settled: Iterable[Slot]
    ) -> Mapping[Slot, Intent]:
        async with self._turn:
            self.check()
            cleared = set(settled)
            kept = {slot: i for slot, i in self.intents(group).items() if slot not in cleared}
            at, revision = self._clock.now(), self._revision + 1
            fresh = {
                slot: Intent(token=Token(f"{self._book.cluster}/{group}/{slot}/{revision}"), hash=version, at=at)
                for slot, version in wanted.items()
            }
            intents = {name: slots for name, slots in self._book.intents.items() if name != group}
            if kept or fresh:
                intents[group] = kept | fresh
            await self._write(msgspec.structs.replace(self._book, intents=intents))
            return fresh

    async def forget(self, group: GroupID) -> None:
        """Clear every intent of a group that is not managed any more."""
        await self.record(group, wanted={}, settled=list(self.intents(group)))

    async def _write(self, book: Book) -> None:
        """One compare-and-swap. When its answer is lost, the store is read to learn what became of it."""
        body = msgspec.json.encode(book)
        try:
            async with asyncio.timeout(STORE_DEADLINE_S):
                revision = await self._store.replace(name=NAME, body=body, expected=self._revision)
        except (errors.OutcomeUnknown, errors.Conflict, TimeoutError):
            await self._find_out()
            if msgspec.json.encode(self._book) != body:
                raise errors.Unreachable("the store did not take the write", where="ledger") from None
        else:
            self._revision, self._book = revision, book

    async def _find_out(self) -> None:
        """Read what is there: a write of our own whose answer was lost is adopted, another's ends this epoch."""
        document, book = await self._load()
        mine = (book.owner, book.epoch) == (self._owner, self._book.epoch)
        if document.revision != self._revision and not mine:
            taken = f"{book.owner} holds epoch {book.epoch}" if book.owner else "the ledger has gone from the store"
            self._lost = self._lost or taken
            raise errors.NotLeader(f"this replica may not act: {self._lost}")
        self._revision, self._book = document.revision, book


def _decode(body: bytes) -> Book:
    if not body:
        return Book()
    try:
        book = msgspec.json.decode(body, type=Book)
    except msgspec.MsgspecError as error:
        raise errors.Refused(f"the ledger cannot be read: {error}", remedy="restore the store from a backup") from None
    if book.format > FORMAT:
        raise errors.Refused(f"the ledger has format {book.format}", remedy="run a newer InfraKit")
    return book
