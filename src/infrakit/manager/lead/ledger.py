"""The ledger: the epoch (fencing token), and a write-ahead record of every call that may be in flight (laws 1 and 3).

It is one document in the store. A replica becomes active by a compare-and-swap that increments the epoch; every batch
of intents is another compare-and-swap. So the next write of a previous leader that still runs fails, and it stops: no
creation or destruction ever starts that the newest epoch has not recorded. A new leader finds the calls that the
previous leader may have had in flight, and settles those first.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import NoReturn, TypeVar

import msgspec

from infrakit.group.ledger import Intent
from infrakit.manager.lead.fence import BOUND_S, BOUND_S_MAX, Fence
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.spi import errors, formats
from infrakit.spi.clock import Clock
from infrakit.spi.store import Document, Store
from infrakit.spi.values import Epoch, GroupID, InstanceID, Slot, Token, Wire

NAME = "ledger"
KEEP = 4  # revisions in the store
STORE_DEADLINE_S = 15.0
CLOSE_DEADLINE_S = 2.0
TERM_DIGITS = 8  # of the name of a term, in tokens
ATTEMPTS_MAX = 5
PROOFS_MAX = 3  # attempts whose proof has expired on arrival, before a longer bound is recorded
BOUND_SHARE = 4.0  # a proof may take a quarter of the bound
POLL_S = 2.0  # between two reads of the ledger while it is idle
UNPROVEN_S_MAX = 10.0  # maximum time without a proof; then the term ends, and calls in flight are cancelled


class LedgerDocument(Wire, frozen=True, kw_only=True):
    """The stored document. `cluster` distinguishes the tokens of this store from those of any other."""

    format: int = formats.FORMAT
    cluster: str = ""
    replaces: tuple[str, ...] = ()  # what `cluster` was before stores were restored from backups
    epoch: int = 0
    owner: str = ""
    term: str = ""  # random: distinguishes terms even if their owners have the same name
    since: float = 0.0  # when the epoch was acquired, seconds since 1970 by its owner's clock
    bound_s: float = BOUND_S  # the maximum age of a proof that its owner relies on
    closed: bool = False  # its owner has stepped down, and starts no more calls
    intents: dict[GroupID, dict[Slot, Intent]] = msgspec.field(default_factory=dict)
    ending: dict[GroupID, tuple[InstanceID, ...]] = msgspec.field(default_factory=dict)  # being destroyed
    changing: dict[GroupID, tuple[str, ...]] = msgspec.field(default_factory=dict)  # changes of the member list
    identities: dict[str, str] = msgspec.field(default_factory=dict)  # of accounts, by instance plugin, as first seen

    @property
    def leader(self) -> str:
        """The name of the replica that holds the epoch; empty if it stepped down, or no epoch was ever acquired."""
        return "" if self.closed else self.owner.rpartition("@")[0]


class EpochLedger:
    """The ledger of one epoch; satisfies `group.ledger.Ledger`.

    `leads_until` returns when the last observation of leadership expires, in loop time. `declaration` is the name of
    its document; `bound` returns once a version of it binds every call. Both are omitted without controllers.
    """

    def __init__(
        self,
        store: Store,
        *,
        owner: str,
        clock: Clock,
        random: random.Random,
        leads_until: Callable[[], float],
        watermark: WatermarkGuard,
        declaration: str = "",
        bound: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock
        self._random = random
        self._watermark = watermark
        self._declaration = declaration
        self._bound = bound
        self._contents = LedgerDocument()
        self._decoded = b"", LedgerDocument()  # the newest body that was read, and its contents
        self._revision = 0
        self._fence = Fence(leads_until)
        self._term = f"{self._random.getrandbits(64):016x}"
        self._write_lock = asyncio.Lock()
        self._proof_lock = asyncio.Lock()
        self._idle: dict[GroupID, tuple[frozenset[Slot], frozenset[InstanceID], frozenset[str]]] = {}

    @property
    def epoch(self) -> Epoch:
        return Epoch(self._contents.epoch)

    @property
    def cluster(self) -> str:
        """The name of this store's ledger, which differs after a restore from a backup."""
        return self._contents.cluster

    @property
    def contents(self) -> LedgerDocument:
        """The document as it was last read or written."""
        return self._contents

    @property
    def since(self) -> float:
        """When the epoch was acquired, seconds since 1970."""
        return self._contents.since

    @property
    def clusters(self) -> frozenset[str]:
        """The names of this cluster in tokens: that of the ledger, and those of ledgers that it replaces."""
        return frozenset({self._contents.cluster, *self._contents.replaces} - {""})

    # -- the epoch -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Acquire the next epoch. Raises `Unreachable`, `Conflict` after losing too many races for it, or `Refused`."""
        for _attempt in range(ATTEMPTS_MAX):
            document, found = await self._load()
            self._is_accepted(found)
            self._revision = document.revision
            self._contents = msgspec.structs.replace(
                found,
                epoch=found.epoch + 1,
                owner=self._owner,
                term=self._term,
                cluster=found.cluster or self._name(),
                since=self._clock.now(),
                bound_s=BOUND_S,
                closed=False,
            )
            try:
                await self._write(self._contents)
            except (errors.NotLeader, errors.Unreachable):
                continue
            inactive = found.closed or not found.epoch
            self._fence.acquire(previous_bound_s=0.0 if inactive else found.bound_s)
            if self._bound is None:
                self._fence.current(math.inf)
            return
        raise errors.Conflict("other replicas keep acquiring the epoch", where="ledger", remedy="see: infrakit status")

    async def check_store(self, version: int) -> None:
        """Raises `Refused` if the ledger is damaged, of a newer format, or older than the high-water mark.

        If the operator accepts an older store, it gets a new cluster name: revisions, and tokens derived from them,
        repeat there. `version` is that of the declaration.
        """
        for _attempt in range(ATTEMPTS_MAX):
            document, found = await self._load()
            if self._is_accepted(found, version):
                if found.cluster:
                    await self._watermark.advance(
                        cluster=found.cluster, replaces=found.replaces, epoch=found.epoch, version=version
                    )
                return
            mark = self._watermark.mark
            contents = msgspec.structs.replace(
                found,
                cluster=self._name(),
                replaces=tuple(sorted({*found.replaces, found.cluster, *mark.replaces, mark.cluster} - {""})),
                epoch=max(found.epoch, mark.epoch) + 1,
                owner=self._owner,
            )
            async with asyncio.timeout(STORE_DEADLINE_S):
                with contextlib.suppress(errors.Conflict, errors.OutcomeUnknown):
                    await self._store.replace(name=NAME, body=msgspec.json.encode(contents), expected=document.revision)
        raise errors.Conflict("other replicas keep changing the ledger", where="store", remedy="stop them first")

    def _name(self) -> str:
        return f"{self._random.getrandbits(32):08x}"

    def _is_accepted(self, contents: LedgerDocument, version: int | None = None) -> bool:
        return self._watermark.accepts(
            cluster=contents.cluster, replaces=contents.replaces, epoch=contents.epoch, version=version
        )

    async def advance(self, version: int) -> None:
        """Raise the high-water mark to this epoch and that version of the declaration."""
        contents = self._contents
        await self._watermark.advance(
            cluster=contents.cluster, replaces=contents.replaces, epoch=contents.epoch, version=version
        )

    async def peek(self) -> LedgerDocument:
        """Read the current document, whichever replica owns it. Raises what the store raises."""
        return (await self._load())[1]

    async def _load(self) -> tuple[Document, LedgerDocument]:
        async with asyncio.timeout(STORE_DEADLINE_S):
            document = await self._store.read(name=NAME)
        return document, self._decode(document)

    def _decode(self, document: Document) -> LedgerDocument:
        body, contents = self._decoded
        if document.body != body:  # thousands of intents make it large, and most proofs read what was read before
            contents = formats.decode(document.body, LedgerDocument, "ledger")
            self._decoded = document.body, contents
        return contents

    async def prove(self) -> None:
        """Obtain a proof that is recent enough for `check`; returns only once the previous leader is fenced off.

        Concurrent callers share one proof. Raises `NotLeader` when another replica holds the epoch, and when the store
        does not answer, or so slowly that every proof has expired on arrival.
        """
        await self._fence.wait_for_previous()
        if self._fence.is_fresh():
            return  # thousands of calls that begin at once do not wait for each other's turn
        try:
            async with self._proof_lock:
                took_s = BOUND_S_MAX
                for _attempt in range(PROOFS_MAX):
                    self._fence.check_epoch()
                    if self._fence.is_fresh():
                        return
                    took_s = min(took_s, await self._timed_read())
                if not self._fence.is_fresh():
                    await self._extend_bound(max(self._fence.bound_s, took_s * BOUND_SHARE))
        except (errors.Unreachable, errors.OutcomeUnknown, errors.Throttled, errors.Conflict, TimeoutError) as error:
            why = str(error) or f"the store did not answer within {STORE_DEADLINE_S:g} s"
            raise errors.NotLeader(f"this replica may not act: its epoch cannot be proven: {why}") from None

    async def _timed_read(self) -> float:
        """Read the ledger and the version of the declaration, and return how long that took in seconds.

        If the declaration has changed, it is adopted first: a halt that is durable binds every call that begins later.
        """
        loop = asyncio.get_running_loop()
        began, known = loop.time(), self._revision
        if self._bound is None:
            await self._reread()
            return loop.time() - began
        async with asyncio.timeout(STORE_DEADLINE_S):
            document, version = await self._store.read_with(name=NAME, head=self._declaration)
        self._adopt(document, known, began)
        took_s = loop.time() - began
        await self._bound(version)
        self._fence.current(began)
        return took_s

    async def _extend_bound(self, bound_s: float) -> None:
        """Rely on older proofs, once the longer bound is recorded, so that the next leader waits for it."""
        if bound_s > BOUND_S_MAX:
            raise errors.Unreachable(
                f"the store takes {bound_s / BOUND_SHARE:.1f} s to answer: too long to prove an epoch", where="ledger"
            )
        async with self._write_lock:
            await self._write(msgspec.structs.replace(self._contents, bound_s=bound_s))
        self._fence.bound_s = bound_s
        await self._timed_read()

    async def guard_leadership(self) -> None:
        """Never returns; raises `NotLeader` as soon as the last observation of leadership has expired."""
        await self._fence.guard_leadership()

    async def poll_epoch(self) -> None:
        """Never returns; raises `NotLeader` when a poll finds the epoch lost, or it stays unproven for too long."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._fence.age_s < POLL_S:
                continue
            try:
                async with asyncio.timeout(POLL_S):
                    await self._reread()
            except (errors.Unreachable, errors.OutcomeUnknown, errors.Throttled, TimeoutError):
                if self._fence.age_s > UNPROVEN_S_MAX:
                    raise errors.NotLeader(
                        f"its epoch could not be proven for {self._fence.age_s:.0f} s: the store does not answer"
                    ) from None

    async def watch_epoch(self) -> None:
        """Like `poll_epoch`, but without the delay of a poll, where the store notifies of other replicas' writes."""
        while True:
            try:
                async for revision in self._store.watch(name=NAME):
                    if revision > self._revision and not self._write_lock.locked():
                        await self._reread()
            except errors.NotLeader:
                raise
            except (errors.InfraKitError, TimeoutError):
                pass  # `poll_epoch` continues
            await asyncio.sleep(POLL_S)

    def check(self) -> None:
        self._fence.check()

    def resign(self, why: str) -> None:
        """Give up the epoch: from now on, no call may start in it."""
        self._fence.lose(why)

    async def close(self) -> None:
        """Record that this epoch starts no more calls, so that the next leader does not wait.

        Called after `resign`. Never fails: if the store does not answer in time, the next leader waits.
        """
        try:
            async with asyncio.timeout(CLOSE_DEADLINE_S), self._write_lock:
                document, contents = await self._load()
                if self._is_mine(contents):
                    body = msgspec.json.encode(msgspec.structs.replace(self._without_idle(contents), closed=True))
                    await self._store.replace(name=NAME, body=body, expected=document.revision)
        except (errors.InfraKitError, TimeoutError):
            pass

    # -- accounts --------------------------------------------------------------------------------------------------

    def identity(self, plugin: str) -> str:
        """Return the recorded identity of an instance plugin's account; empty if none is recorded."""
        return self._contents.identities.get(plugin, "")

    async def identify(self, plugin: str, identity: str) -> None:
        """Record the identity of an account. Raises as `record` does."""
        async with self._write_lock:
            self._fence.check_epoch()
            identities = self._contents.identities | {plugin: identity}
            await self._write(msgspec.structs.replace(self._contents, identities=identities))

    # -- calls in flight -------------------------------------------------------------------------------------------

    @property
    def groups(self) -> set[GroupID]:
        """The groups that may have calls in flight."""
        return {*self._contents.intents, *self._contents.ending, *self._contents.changing}

    def intents(self, group: GroupID) -> Mapping[Slot, Intent]:
        return self._contents.intents.get(group, {})

    def creating(self, group: GroupID) -> Mapping[Slot, Intent]:
        """Return the recorded creations, without those that certainly were not started."""
        idle = self._idle[group][0] if group in self._idle else ()
        return {slot: intent for slot, intent in self.intents(group).items() if slot not in idle}

    def destroying(self, group: GroupID) -> Collection[InstanceID]:
        return self._contents.ending.get(group, ())

    def changing(self, group: GroupID) -> Collection[str]:
        return self._contents.changing.get(group, ())

    async def record(
        self,
        group: GroupID,
        *,
        wanted: Mapping[Slot, str],
        settled: Iterable[Slot],
        destroying: Collection[InstanceID] | None = None,
        changing: Collection[str] | None = None,
    ) -> Mapping[Slot, Intent]:
        async with self._write_lock:
            self._fence.check_epoch()
            cleared = set(settled)
            kept = {slot: i for slot, i in self.intents(group).items() if slot not in cleared}
            # A store that is restored from a backup repeats its revisions: the term does not occur a second time.
            at, revision = self._clock.now(), f"{self._revision + 1}-{self._term[:TERM_DIGITS]}"
            fresh = {
                slot: Intent(token=Token(f"{self._contents.cluster}/{group}/{slot}/{revision}"), hash=version, at=at)
                for slot, version in wanted.items()
            }
            destroys = self.destroying(group) if destroying is None else destroying
            changes = self.changing(group) if changing is None else changing
            contents = msgspec.structs.replace(
                self._contents,
                intents=_with(self._contents.intents, group, kept | fresh),
                ending=_with(self._contents.ending, group, tuple(sorted(destroys))),
                changing=_with(self._contents.changing, group, tuple(sorted(changes))),
            )
            await self._write(contents)
            return fresh

    def withdraw(
        self, group: GroupID, *, slots: Iterable[Slot], destroying: Iterable[InstanceID], changing: Iterable[str] = ()
    ) -> None:
        self._idle[group] = (frozenset(slots), frozenset(destroying), frozenset(changing))

    def _without_idle(self, contents: LedgerDocument) -> LedgerDocument:
        """Return the document without calls that were recorded and never started."""
        for group, (slots, instances, idle) in self._idle.items():
            kept = {slot: intent for slot, intent in contents.intents.get(group, {}).items() if slot not in slots}
            destroys = tuple(each for each in contents.ending.get(group, ()) if each not in instances)
            changes = tuple(each for each in contents.changing.get(group, ()) if each not in idle)
            contents = msgspec.structs.replace(
                contents,
                intents=_with(contents.intents, group, kept),
                ending=_with(contents.ending, group, destroys),
                changing=_with(contents.changing, group, changes),
            )
        return contents

    async def forget(self, group: GroupID) -> None:
        """Clear what is recorded of a group that has not been declared for long."""
        await self.record(group, wanted={}, settled=list(self.intents(group)), destroying=(), changing=())

    async def _write(self, contents: LedgerDocument) -> None:
        """Write with one compare-and-swap. If the response is lost, read the store to learn the outcome."""
        body, began, expected = msgspec.json.encode(contents), asyncio.get_running_loop().time(), self._revision
        try:
            async with asyncio.timeout(STORE_DEADLINE_S):
                revision = await self._store.replace(name=NAME, body=body, expected=expected)
        except (errors.OutcomeUnknown, errors.Conflict, TimeoutError):
            await self._reread()
            if self._revision == expected or msgspec.json.encode(self._contents) != body:
                raise errors.Unreachable("the store rejected the write", where="ledger") from None
        else:
            self._revision, self._contents, self._decoded = revision, contents, (body, contents)
            self._fence.proven(began)

    async def _reread(self) -> None:
        """Read the ledger, and adopt it."""
        began, known = asyncio.get_running_loop().time(), self._revision
        document, _ = await self._load()
        self._adopt(document, known, began)

    def _adopt(self, document: Document, known: int, began: float) -> None:
        """Adopt what a read returned that began at `began`, when the revision `known` was the newest known.

        It may be an own write whose response was lost; another replica's write ends this epoch.
        """
        contents = self._decode(document)
        # Checked at a known revision, too: a store that was restored from a backup may have reached it again.
        if not self._is_mine(contents):
            self._lose(
                f"{contents.owner} holds epoch {contents.epoch}"
                if contents.owner
                else "the ledger is missing from the store"
            )
        if document.revision < known:
            self._lose(f"the store went back from revision {known} of the ledger to {document.revision}")
        if document.revision > self._revision:  # else an own write completed before this read
            self._revision, self._contents = document.revision, contents
        self._fence.proven(began)

    def _lose(self, why: str) -> NoReturn:
        self._fence.lose(why)
        raise errors.NotLeader(f"this replica may not act: {why}")

    def _is_mine(self, contents: LedgerDocument) -> bool:
        return (contents.term, contents.epoch) == (self._term, self._contents.epoch)


Recorded = TypeVar("Recorded", Mapping[Slot, Intent], tuple[InstanceID, ...], tuple[str, ...])


def _with(by_group: Mapping[GroupID, Recorded], group: GroupID, entry: Recorded) -> dict[GroupID, Recorded]:
    """The mapping with that entry for the group, or without the group if the entry is empty."""
    others = {name: each for name, each in by_group.items() if name != group}
    return others | {group: entry} if entry else others
