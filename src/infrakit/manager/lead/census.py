"""The censuses of one term, in the store: one document for each group, stamped with the epoch (see `gate.census`)."""

import asyncio
import hashlib
from typing import Protocol

import msgspec

from infrakit.gate.census import Census
from infrakit.manager.lead.ledger import STORE_DEADLINE_S
from infrakit.spi import errors, formats
from infrakit.spi.store import Store
from infrakit.spi.values import Epoch, GroupID

PREFIX = "census-"
NAME_MAX = 17  # a store takes names of 24 characters: letters, digits and hyphens


class Stamp(Protocol):
    """Who writes: the ledger of the term."""

    @property
    def cluster(self) -> str: ...

    @property
    def epoch(self) -> Epoch: ...


class Censuses:
    """Satisfies `group.ledger.CensusStore` for one epoch."""

    def __init__(self, store: Store, ledger: Stamp) -> None:
        self._store = store
        self._ledger = ledger
        self._revisions: dict[GroupID, int] = {}

    async def open(self, group: GroupID) -> Census:
        revision, found = await self._read(group)
        self._revisions[group] = revision
        if found.cluster != self._ledger.cluster:
            found = Census()
        elif found.epoch < self._ledger.epoch - 1:  # a leader between did not write it, and may have called again
            found = msgspec.structs.replace(found, ending=())
        await self.write(group, found)
        return found

    async def write(self, group: GroupID, census: Census) -> None:
        stamped = msgspec.structs.replace(census, cluster=self._ledger.cluster, epoch=self._ledger.epoch)
        body, expected = msgspec.json.encode(stamped), self._revisions[group]
        try:
            async with asyncio.timeout(STORE_DEADLINE_S):
                revision = await self._store.replace(name=name(group), body=body, expected=expected)
        except (errors.OutcomeUnknown, errors.Conflict, TimeoutError):
            revision, found = await self._read(group)
            self._revisions[group] = revision
            if found != stamped:
                raise errors.Unreachable("the store rejected the write", where=f"census of {group}") from None
        self._revisions[group] = revision

    async def clear(self, group: GroupID) -> None:
        """Forget a group that is no longer declared. Raises what the store raises."""
        if group in self._revisions:
            self._revisions[group], _ = await self._read(group)  # its last write may have been cancelled
            await self.write(group, Census())

    async def _read(self, group: GroupID) -> tuple[int, Census]:
        async with asyncio.timeout(STORE_DEADLINE_S):
            document = await self._store.read(name=name(group))
        found = formats.decode(document.body, Census, f"census of {group}")
        if found.cluster == self._ledger.cluster and found.epoch > self._ledger.epoch:
            raise errors.NotLeader(f"this replica may not act: epoch {found.epoch} keeps the census of {group}")
        return document.revision, found


def name(group: GroupID) -> str:
    """The name of the document: readable if the name of the group is short and plain."""
    if len(group) <= NAME_MAX and group.replace("-", "").isalnum():
        return PREFIX + group
    return f"{PREFIX}{hashlib.sha256(group.encode()).hexdigest()[:NAME_MAX]}"
