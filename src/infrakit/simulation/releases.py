"""Replicas of other releases: the same code, behind a store that it reads and writes as the other release does.

The first release cannot read the policies that were added to format 1. The next one reads both formats; it writes
format 2, in which intents have another name, once the roster names no replica that cannot read that, and until then
format 1, as `spi.formats` requires.
"""

import enum
import json
from collections.abc import AsyncIterator, Sequence

from infrakit.manager.api import roster
from infrakit.manager.declaration import record
from infrakit.simulation.quorum import Member
from infrakit.spi import errors, formats
from infrakit.spi.store import Document

NEXT_FORMAT = formats.FORMAT + 1


class Release(enum.Enum):
    """Which InfraKit a node runs."""

    FIRST = "0.0"
    CURRENT = "0.1"
    NEXT = "0.2"


class StoreOfRelease:
    """The store as a replica of another release uses it."""

    def __init__(self, member: Member, release: Release) -> None:
        self._member = member
        self._release = release

    async def read(self, *, name: str) -> Document:
        return self._read(await self._member.read(name=name))

    async def newest(self, *, name: str) -> int:
        return await self._member.newest(name=name)

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        document, newest = await self._member.read_with(name=name, head=head)
        return self._read(document), newest

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        return [self._read(each) for each in await self._member.history(name=name, limit=limit)]

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if self._release is Release.NEXT and await self._all_read_next():
            body = _converted(body, formats.FORMAT, NEXT_FORMAT)
        return await self._member.replace(name=name, body=body, expected=expected)

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        async for revision in self._member.watch(name=name):
            yield revision

    async def close(self) -> None:
        """Do nothing: there are no resources to release."""

    def _read(self, document: Document) -> Document:
        if self._release is Release.NEXT:
            body = _converted(document.body, NEXT_FORMAT, formats.FORMAT)
            return Document(name=document.name, revision=document.revision, body=body)
        if self._release is Release.FIRST and document.name == record.NAME and (unknown := _policies(document.body)):
            raise errors.Refused(
                f"the declaration cannot be read: it contains the unknown field {min(unknown)}",
                where="store",
                remedy="restore the store from a backup",
            )
        return document

    async def _all_read_next(self) -> bool:
        try:
            body = (await self._member.read(name=roster.NAME)).body
        except errors.InfraKitError:
            return False
        replicas = json.loads(body or b"{}").get("Replicas") or {}
        return bool(replicas) and all(entry["Format"] >= NEXT_FORMAT for entry in replicas.values())


def entry(name: str, release: Release) -> roster.ReplicaEntry:
    """Return the entry of a replica of that release in the roster."""
    return roster.ReplicaEntry(
        address=f"/simulated/{name}",
        version=release.value,
        format=NEXT_FORMAT if release is Release.NEXT else formats.FORMAT,
        policies=() if release is Release.FIRST else formats.POLICIES,
        host=name,
        pid=1,
        started="2027-01-15T08:00:00Z",
    )


def _converted(body: bytes, before: int, after: int) -> bytes:
    """Convert a document between the formats: its number, which is its first field, and the name of the intents."""
    head = b'{"Format":%d,'
    if not body.startswith(head % before):
        return body
    intents = {formats.FORMAT: b'"Intents":', NEXT_FORMAT: b'"Requests":'}
    return body.replace(head % before, head % after, 1).replace(intents[before], intents[after], 1)


def _policies(body: bytes) -> set[str]:
    groups = (json.loads(body or b"{}").get("Groups") or {}).values()
    return {field for group in groups for field in group["properties"].get("Updating") or {}} & set(formats.POLICIES)
