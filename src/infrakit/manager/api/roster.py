"""The roster: all replicas and their addresses, a document in the store beside the declaration.

A replica adds itself when it starts, and removes itself when it stops cleanly. Whether a replica is alive is learned by
a request to the replica itself; only the one on the leader's node has a heartbeat (`manager/lead/heartbeat.py`).
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
CHECK_S = 10.0  # between two checks that the own entry still exists
ATTEMPTS_MAX = 20


class ReplicaEntry(Wire, frozen=True, kw_only=True):
    """The address and identity of one replica."""

    address: str  # a path of a unix socket, or a URL
    version: str  # of InfraKit
    format: int  # the newest format of store documents that it reads
    policies: tuple[str, ...] = ()  # that it reads, beyond those of the first release
    has_heartbeat: bool = False  # while its node leads
    host: str
    pid: int
    started: str  # ISO 8601


class RosterDocument(Wire, frozen=True, kw_only=True):
    """The stored document: all replicas by name."""

    format: int = formats.FORMAT
    replicas: dict[str, ReplicaEntry] = msgspec.field(default_factory=dict)


class Roster:
    """The roster, and one replica's entry in it."""

    def __init__(self, store: Store, name: str, entry: ReplicaEntry) -> None:
        self.name = name
        self.entry = entry
        self._store = store

    async def entries(self) -> Mapping[str, ReplicaEntry]:
        """All replicas, by name. Raises what the store raises."""
        return (await self._load())[1].replicas

    async def address(self, name: str) -> str:
        """The address of a replica; empty if it is unknown. Raises what the store raises."""
        entry = (await self.entries()).get(name)
        return entry.address if entry is not None else ""

    async def add(self) -> None:
        """Add the own entry. Raises what the store raises."""
        await self._write(self.name, self.entry)

    async def remove(self, name: str, entry: ReplicaEntry) -> None:
        """Remove the entry of a lost replica, unless it has changed. Raises what the store raises."""
        await self._write(name, None, before=entry)

    async def keep(self) -> None:
        """Maintain the own entry until cancelled; then remove it, if the store answers within a timeout."""
        try:
            while True:
                with contextlib.suppress(errors.InfraKitError, TimeoutError):
                    await self.add()
                await asyncio.sleep(CHECK_S)
        finally:
            with contextlib.suppress(errors.InfraKitError, TimeoutError):
                async with asyncio.timeout(LEAVE_DEADLINE_S):
                    await self._write(self.name, None, before=self.entry)

    async def _write(self, name: str, entry: ReplicaEntry | None, *, before: ReplicaEntry | None = None) -> None:
        """Set an entry, or remove it if it is still as `before`: another process may have that name meanwhile."""
        for _attempt in range(ATTEMPTS_MAX):
            document, found = await self._load()
            stored = found.replicas.get(name)
            if stored == entry or (entry is None and stored != before):
                return
            others = {other: each for other, each in found.replicas.items() if other != name}
            replicas = others | ({name: entry} if entry is not None else {})
            body = msgspec.json.encode(msgspec.structs.replace(found, replicas=replicas))
            with contextlib.suppress(errors.Conflict):
                async with asyncio.timeout(STORE_DEADLINE_S):
                    await self._store.replace(name=NAME, body=body, expected=document.revision)
                return

    async def _load(self) -> tuple[Document, RosterDocument]:
        async with asyncio.timeout(STORE_DEADLINE_S):
            document = await self._store.read(name=NAME)
        return document, formats.decode(document.body, RosterDocument, "roster of replicas")
