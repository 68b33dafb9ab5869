"""The declaration in the store: reads, changes by compare-and-swap, history.

A change is a pure function of the record. If it loses a race against another replica, it is retried on the new record,
unless the caller named the version it expects: then it raises a `Conflict` that lists what changed meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from infrakit.manager.declaration import record as records
from infrakit.manager.declaration.readers import require_readable
from infrakit.manager.declaration.record import ChangeEntry, DeclarationRecord, RecordChange
from infrakit.manager.declaration.validate import conflicts
from infrakit.manager.declaration.warnings import warnings
from infrakit.manager.lead import watermark
from infrakit.spec import diff
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.event import timestamp
from infrakit.spi.manager import Change, Committed, Version
from infrakit.spi.store import Document, Store

STORE_DEADLINE_S = 15.0
ATTEMPTS_MAX = 5


class Declaration:
    """The current declaration, as last read or written by this replica."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._write_lock = asyncio.Lock()
        self.record = DeclarationRecord()
        self.version = 0

    async def load(self) -> DeclarationRecord:
        """Read the newest version from the store. Raises `Refused` if the store has lost an acknowledged version."""
        known = self.version
        async with asyncio.timeout(STORE_DEADLINE_S):
            document = await self._store.read(name=records.NAME)
        if document.revision < known:
            raise errors.Refused(
                f"it holds declaration version {document.revision}; version {known} was read from it before",
                where="store",
                remedy=watermark.REMEDY,
            )
        if document.revision > self.version:  # else an own write completed before this read
            self.record, self.version = records.decode(document.body), document.revision
        return self.record

    async def newest(self) -> int:
        """Return the newest version in the store, without reading it."""
        async with asyncio.timeout(STORE_DEADLINE_S):
            return await self._store.newest(name=records.NAME)

    async def change(
        self, change: RecordChange, *, what: str, who: str, why: str, expected: int | None = None
    ) -> Committed:
        """Apply a change and return when it is durable. Raises `Conflict`, or what the change refuses."""
        async with self._write_lock:
            for _attempt in range(ATTEMPTS_MAX):
                before = await self.load()
                if expected not in (None, self.version) and not await self._only_proven_since(expected or 0, before):
                    raise await self._conflict(expected or 0)
                after = change(before)
                self._refuse_conflicts(before, after)
                if after == before:
                    return Committed(version=self.version, unchanged=True)
                await require_readable(self._store, before, after)
                entry = ChangeEntry(what=what, who=who, when=timestamp(self._clock.now()), why=why)
                after = msgspec.structs.replace(after, entry=entry)
                # Computed before the write: nothing may fail once the change is durable.
                changes = diff.changes(tuple(before.groups.values()), tuple(after.groups.values()))
                notes = warnings(before, after)
                if await self._write(after):
                    return Committed(version=self.version, changes=changes, notes=notes)
            raise errors.Conflict("other replicas keep changing the declaration", remedy="retry")

    def _refuse_conflicts(self, before: DeclarationRecord, after: DeclarationRecord) -> None:
        """Raise `Refused` if a change lets two groups share a logical ID: a concurrent change may have added the other.

        An earlier release may have stored such groups; a change that is not the cause of it is accepted.
        """
        known = conflicts(before.groups.values())
        found = {name: why for name, why in conflicts(after.groups.values()).items() if why != known.get(name)}
        if found:
            name, why = min(found.items())
            raise errors.Refused(why, where=f"group {name}", remedy="declare another logical ID, or destroy one group")

    async def _only_proven_since(self, expected: int, now: DeclarationRecord) -> bool:
        """Whether nothing has changed since that version, except that InfraKit has recorded proven versions."""
        if not 0 < expected < self.version:
            return False
        try:
            then = records.decode((await self._at(expected)).body)
        except errors.NotFound:
            return False
        return msgspec.structs.replace(then, proven=now.proven, entry=now.entry) == now

    async def _write(self, after: DeclarationRecord) -> bool:
        """Write the record; False if another writer was first."""
        body = records.encode(after)
        try:
            async with asyncio.timeout(STORE_DEADLINE_S):
                version = await self._store.replace(name=records.NAME, body=body, expected=self.version)
        except errors.Conflict:
            return False
        except (errors.OutcomeUnknown, TimeoutError):
            version = await self._find_revision(body)
        self.record, self.version = after, version
        return True

    async def _find_revision(self, body: bytes) -> int:
        """Return the revision with this body. Raises `OutcomeUnknown` if none has it."""
        async with asyncio.timeout(STORE_DEADLINE_S):
            for document in await self._store.history(name=records.NAME, limit=20):
                if document.body == body:
                    return document.revision
        raise errors.OutcomeUnknown(
            "the store did not confirm whether the change was stored", where="store", remedy="see: infrakit history"
        )

    async def _conflict(self, expected: int) -> errors.Conflict:
        """The error that lists what has changed since the version that the caller expected."""
        now = self.record
        last: ChangeEntry | Version = now.entry
        if last.what == records.PROVEN:  # not what the other operator has changed
            changed = (each for each in await self.history(records.KEEP) if each.what != records.PROVEN)
            last = next(changed, last)
        at = f"the declaration is at version {self.version}"
        if self.version:
            at += f" (by {last.who}: {last.why})"
        remedy = "review it (infrakit history) and commit again"
        if expected > self.version:
            return errors.Conflict(f"{at}; there is no version {expected} yet", remedy=remedy)
        try:
            then = records.decode((await self._at(expected)).body) if expected else DeclarationRecord()
            changes = diff.changes(tuple(then.groups.values()), tuple(now.groups.values()))
            what = "; ".join(_change_text(c) for c in changes[:10]) or "no declared group"
        except errors.NotFound:
            what = f"unknown, because version {expected} is no longer stored"
        return errors.Conflict(f"{at}, not {expected}; changed since: {what}", remedy=remedy)

    # -- history ---------------------------------------------------------------------------------------------------

    async def history(self, limit: int) -> tuple[Version, ...]:
        """Versions, newest first."""
        async with asyncio.timeout(STORE_DEADLINE_S):
            documents = await self._store.history(name=records.NAME, limit=limit)
        return tuple(_version(d) for d in documents)

    async def at(self, version: int) -> DeclarationRecord:
        """The record of an earlier version. Raises `NotFound`."""
        return records.decode((await self._at(version)).body)

    async def _at(self, version: int) -> Document:
        async with asyncio.timeout(STORE_DEADLINE_S):
            for document in await self._store.history(name=records.NAME, limit=max(1, self.version - version + 1)):
                if document.revision == version:
                    return document
        raise errors.NotFound(f"no version {version} is stored", remedy="see: infrakit history")

    async def watch(self) -> AsyncIterator[int]:
        """Yield the current version in the store, and each new one."""
        async for revision in self._store.watch(name=records.NAME):
            yield revision


def _change_text(change: Change) -> str:
    """A change as text, without the values of plugins' properties, which may be secrets."""
    if ".Properties" in change.path:
        return change.path
    return f"{change.path}: {change.old} -> {change.new}"


def _version(document: Document) -> Version:
    record = records.decode(document.body)
    entry = record.entry
    return Version(
        version=document.revision,
        when=entry.when,
        who=entry.who,
        why=entry.why,
        what=entry.what,
        hash=records.digest(record),
        groups=tuple(sorted(record.groups)),
    )
