"""The spec store: named documents with compare-and-swap, in a place that every replica can read.

A backend implements these few primitives; what the documents mean is decided above it, once. A store is found by the
scheme of its URL among the entry points of the group `infrakit.stores`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, runtime_checkable
from urllib.parse import SplitResult

import msgspec


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a document. A document that was never written has revision 0 and an empty body."""

    name: str
    revision: int
    body: bytes


@runtime_checkable
class Store(Protocol):
    """Durable, named documents.

    An error is never an empty answer: when a read fails, it raises `Unreachable` (retry), or `Refused` when what is
    there cannot be trusted (damaged beyond what older revisions can repair).
    """

    async def read(self, *, name: str) -> Document:
        """Return the newest revision."""
        ...

    async def newest(self, *, name: str) -> int:
        """Return the newest revision number, without the body; 0 if there is none. As fresh as `read`."""
        ...

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        """Return the newest revision of `name`, and the newest revision number of `head`, as `newest` does.

        It is one request where the backend allows it, for what every call to a provider waits for.
        """
        ...

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        """Write `body` as revision `expected + 1` and return that number once it is durable.

        A store takes bodies of at least 512 KiB, and raises `Refused` for one above its limit. Raises `Conflict` when
        the newest revision is not `expected`, and then nothing is written; `OutcomeUnknown` when the write may or may
        not have happened.
        """
        ...

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        """Return the newest `limit` revisions that are still kept, newest first, without damaged older ones."""
        ...

    def watch(self, *, name: str) -> AsyncIterator[int]:
        """Yield the newest revision number now, and again after each change."""
        ...

    async def close(self) -> None:
        """Release locks and connections."""
        ...


@runtime_checkable
class StoreFactory(Protocol):
    """Opens the stores of one URL scheme.

    An entry point of the group `infrakit.stores` names it; the entry point's own name is the scheme. In most cases it
    is the class of the store, with `from_url` as a class method and `accepts` as a static one. Passwords in a URL are
    rejected before it is called.
    """

    form: str  # how a URL of this scheme is written, as errors show it: `etcd://HOST:PORT/PREFIX`

    def accepts(self, url: SplitResult, /) -> bool:
        """Whether the URL names a store completely. Opens no files or connections, and needs no optional client."""
        ...

    def from_url(self, url: SplitResult, /, *, keep: Mapping[str, int]) -> Store:
        """Return the store at an accepted URL; it sends no request before its first use. Raises `Refused`.

        `keep` maps the name of a document to the number of newest revisions that the caller needs. A store may keep
        fewer if its backend has a limit, and applies its own default to documents that are not in `keep`.
        """
        ...
