"""Reads the stored state of a daemon while none runs: its journal of events, and the versions of the declaration.

It takes no lock and writes nothing, so a daemon may start meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from infrakit.events import journal
from infrakit.manager.declaration.store import Declaration
from infrakit.runtime import sources
from infrakit.spec import document
from infrakit.spi.clock import SystemClock
from infrakit.spi.event import Event
from infrakit.spi.manager import Version

T = TypeVar("T")


def events(home: Path, *, since: int, group: str | None) -> Iterator[Event]:
    """Yield the events after number `since`, oldest first. Raises `OSError` if they cannot be read."""
    return journal.read_events(home / "events", since, group=group)


def history(home: Path, store: str, *, limit: int) -> Sequence[Version]:
    """Return versions, newest first. `store`: URL; empty: the store in `home`. Raises what the store raises."""
    return _ask(home, store, lambda declaration: declaration.history(limit))


def show(home: Path, store: str, *, version: int) -> str:
    """Return the groups declared at that version, as a JSON document. Raises `NotFound`."""

    async def show(declaration: Declaration) -> str:
        await declaration.load()
        record = await declaration.at(version)
        return document.render([record.groups[name] for name in sorted(record.groups)])

    return _ask(home, store, show)


def _ask(home: Path, store: str, query: Callable[[Declaration], Awaitable[T]]) -> T:
    async def ask() -> T:
        source = sources.store(store, home)
        try:
            return await query(Declaration(source, SystemClock()))
        finally:
            await source.close()

    return asyncio.run(ask())
