"""A tree of facts that is built as a whole and cached for a short time, for metadata plugins."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from infrakit.spi import paths


class CachedTree:
    """Serves a tree that `build` returns. Satisfies `spi.metadata.Metadata`. Concurrent readers share one build.

    It raises what `build` raises, and then caches nothing.
    """

    def __init__(self, build: Callable[[], Awaitable[dict[str, Any]]], *, max_age_s: float) -> None:
        self._build = build
        self._max_age_s = max_age_s
        self._lock = asyncio.Lock()
        self._built_at: float | None = None
        self._tree: dict[str, Any] = {}

    async def keys(self, *, path: str) -> Sequence[str] | None:
        return paths.keys(paths.find(await self._current(), paths.split(path)))

    async def get(self, *, path: str) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(paths.find(await self._current(), paths.split(path))))

    async def _current(self) -> dict[str, Any]:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._built_at is None or now - self._built_at > self._max_age_s:
                self._tree = await self._build()
                self._built_at = now
        return self._tree
