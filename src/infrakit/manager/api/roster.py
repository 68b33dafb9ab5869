"""The roster: which replicas there are and where each answers, a document in the store beside the declaration.

A replica writes itself when it starts, and takes itself out when it stops cleanly. Nothing beats in it: whether one
lives is asked, of the replica itself.
"""

import asyncio
import contextlib
from collections.abc import Mapping

import msgspec

from infrakit.spi import errors, formats
from infrakit.spi.store import Document, Store
from infrakit.spi.values import Wire

NAME = "replicas"
STORE_DEADLINE_S = 15.0
LEAVE_DEADLINE_S = 2.0
CHECK_S = 10.0  # between two looks whether the own entry is still there
ATTEMPTS_MAX = 20


class ReplicaEntry(Wire, frozen=True, kw_only=True):
    """One replica."""

    address: str  # a path of a unix socket, or a URL
    version: str  # of InfraKit
    format: int  # of the store's documents: the newest that it reads
    host: str
    pid: int
    started: str  # ISO 8601


class RosterDocument(Wire, frozen=True, kw_only=True):
    """The document."""

    format: int = formats.FORMAT
    replicas: dict[str, ReplicaEntry] = msgspec.field(default_factory=dict)


class Roster:
    """As one replica keeps it."""

    def __init__(self, store: Store, name: str, entry: ReplicaEntry) -> None:
        self.name = name
        self.entry = entry
        self._store = store

    async def entries(self) -> Mapping[str, ReplicaEntry]:
        """Everybody, by name. Raises what the store raises."""
        return (await self._load())[1].replicas

    async def address(self, name: str) -> str:
        """Where that replica answers; empty if it is not known. Raises what the store raises."""
        entry = (await self.entries()).get(name)
        return entry.address if entry is not None else ""

    async def keep(self) -> None:
        """Be in it, until cancelled; then take ourselves out, if the store lets us soon."""
        try:
            while True:
                with contextlib.suppress(errors.InfraKitError, TimeoutError):
                    await self._write(self.entry)
                await asyncio.sleep(CHECK_S)
        finally:
            with contextlib.suppress(errors.InfraKitError, TimeoutError):
                async with asyncio.timeout(LEAVE_DEADLINE_S):
                    await self._write(None)

    async def _write(self, entry: ReplicaEntry | None) -> None:
        """Make our entry this one. A name that somebody else has taken meanwhile is left to them."""
        for _attempt in range(ATTEMPTS_MAX):
            document, found = await self._load()
            mine = found.replicas.get(self.name)
            if mine == entry or (entry is None and mine != self.entry):
                return
            others = {name: each for name, each in found.replicas.items() if name != self.name}
            replicas = others | ({self.name: entry} if entry is not None else {})
            body = msgspec.json.encode(msgspec.structs.replace(found, replicas=replicas))
            with contextlib.suppress(errors.Conflict):
                async with asyncio.timeout(STORE_DEADLINE_S):
                    await self._store.replace(name=NAME, body=body, expected=document.revision)
                return

    async def _load(self) -> tuple[Document, RosterDocument]:
        async with asyncio.timeout(STORE_DEADLINE_S):
            document = await self._store.read(name=NAME)
        return document, formats.decode(document.body, RosterDocument, "roster of replicas")
