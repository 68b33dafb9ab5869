"""The spec store: named documents with compare-and-swap, in a place that every replica can read.

A backend implements these few primitives. It does not interpret the documents.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

import msgspec


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a document. A document that was never written has revision 0 and an empty body."""

    name: str
    revision: int
    body: bytes


@runtime_checkable
class Store(Protocol):
    """Durable, named documents.

    A failed read never returns an empty document: it raises `Unreachable` (retry), or `Refused` if the stored data
    cannot be trusted (damaged, and no older revision can replace it).
    """

    async def read(self, *, name: str) -> Document:
        """Return the newest revision."""
        ...

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        """Write `body` as revision `expected + 1` and return that number once it is durable.

        Raises `Conflict` when the newest revision is not `expected`, and then writes nothing;
        `OutcomeUnknown` when the write may or may not have happened.
        """
        ...

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        """Return the newest `limit` revisions that are still kept, newest first, without damaged older ones."""
        ...

    def watch(self, *, name: str) -> AsyncIterator[int]:
        """Yield the newest revision number now, and again after each change."""
        ...

    async def close(self) -> None:
        """Release locks and close connections."""
        ...
