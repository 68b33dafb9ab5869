"""The spec store: named documents with compare-and-swap, kept where every replica can read them.

A backend implements these few primitives; what the documents mean is decided above it, once.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

import msgspec


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a document. Revision 0 with an empty body: it was never written."""

    name: str
    revision: int
    body: bytes


@runtime_checkable
class Store(Protocol):
    """Durable documents.

    An error is never an empty answer: when a read fails, it raises `Unreachable` (try again), or `Refused` when what is
    there cannot be trusted (damaged beyond what older revisions can mend).
    """

    async def read(self, *, name: str) -> Document:
        """The newest revision."""
        ...

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        """Write `body` as revision `expected + 1` and return that number once it is durable.

        Raises `Conflict` when the newest revision is not `expected`, and then nothing is written;
        `OutcomeUnknown` when the write may or may not have happened.
        """
        ...

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        """The newest `limit` revisions that are still kept, newest first, without older ones that are damaged."""
        ...

    def watch(self, *, name: str) -> AsyncIterator[int]:
        """Yields the newest revision number now, and again whenever it has changed."""
        ...

    async def close(self) -> None:
        """Let go of locks and connections."""
        ...
