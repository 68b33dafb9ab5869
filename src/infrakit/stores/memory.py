"""A store in memory, for tests and simulations: the semantics of a durable store, without the durability."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Self
from urllib.parse import SplitResult

from infrakit.spi import errors
from infrakit.spi.store import Document


class MemoryStore:
    """Keeps the newest `keep[name]` revisions of a document, and all of a document that `keep` does not name."""

    form = "memory:"

    def __init__(self, *, keep: Mapping[str, int] | None = None) -> None:
        self._keep = dict(keep or {})
        self._revisions: dict[str, list[Document]] = {}
        self._changed = asyncio.Event()

    @staticmethod
    def accepts(_url: SplitResult) -> bool:
        return True

    @classmethod
    def from_url(cls, _url: SplitResult, *, keep: Mapping[str, int]) -> Self:
        return cls(keep=keep)

    async def read(self, *, name: str) -> Document:
        revisions = self._revisions.get(name)
        return revisions[-1] if revisions else Document(name=name, revision=0, body=b"")

    async def newest(self, *, name: str) -> int:
        return (await self.read(name=name)).revision

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        document = await self.read(name=name)
        return document, (await MemoryStore.read(self, name=head)).revision

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        newest = (await self.read(name=name)).revision
        if newest != expected:
            raise errors.Conflict(f"{name} is at revision {newest}, not {expected}", where="store")
        revisions = self._revisions.setdefault(name, [])
        revisions.append(Document(name=name, revision=expected + 1, body=body))
        keep = self._keep.get(name)
        if keep is not None:
            del revisions[:-keep]
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return expected + 1

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        return self._revisions.get(name, [])[::-1][:limit]

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        seen: int | None = None
        while True:
            changed, newest = self._changed, (await self.read(name=name)).revision
            if newest != seen:
                seen = newest
                yield newest
            else:
                await changed.wait()

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""
