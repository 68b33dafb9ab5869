"""Garbage collection of configs that failed or killed writers leave behind: parts without a head, unused barriers.

A part without a head may still belong to a writer that is about to swap, however long ago it was created, because
machines can be suspended. So before such parts are removed, the version of the head is raised without another change. A
writer that read the head before that fails its swap and retries with new parts; one that reads the head afterwards
creates its parts later than the listing here.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from infrakit.clients.swarm import Swarm
from infrakit.clients.swarm_values import Config
from infrakit.spi import errors
from infrakit.stores.swarm.proof import BARRIER, Found, Heads
from infrakit.stores.swarm.revisions import LABEL, decode

PART: Final = "infrakit-part-"
SWEPT: Final = "infrakit.swept"
INTERVAL_S = 300.0
UNCHANGED_S = 600.0  # how long a config must be unchanged before it is removed


class Sweep:
    """Finds configs without an owner, and removes those that remain unchanged for `UNCHANGED_S`."""

    def __init__(self, swarm: Swarm, heads: Heads) -> None:
        self._swarm = swarm
        self._heads = heads
        self._suspects: dict[tuple[str, int], float] = {}  # first seen (loop time), by ID and version
        self._due_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin_if_due(self) -> None:
        """Start a sweep in the background if one is due; the next one retries after an error."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._due_at and (self._task is None or self._task.done()):
            self._due_at = loop.time() + INTERVAL_S
            self._task = loop.create_task(self._run_in_background())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run_in_background(self) -> None:
        with contextlib.suppress(errors.InfraKitError):
            await self.sweep()

    async def sweep(self, *, unchanged_s: float = UNCHANGED_S) -> None:
        """Run one sweep. Raises the errors of its listings."""
        listed = await self._swarm.configs({"name": [PART, BARRIER]})
        found = await self._heads.linearizable()
        named, damaged = set[str](), set[str]()
        for name, each in found.items():
            try:
                named |= decode(each.labels.get(LABEL, ""), name).parts
            except errors.Refused:  # its parts are needed to repair it
                damaged.add(name)
        now = asyncio.get_running_loop().time()
        suspects = [each for each in listed if each.id not in named and _document(each) not in damaged]
        self._suspects = {(each.id, each.version): self._unchanged_since(each, now) for each in suspects}
        unused = [each for each in suspects if now - self._unchanged_since(each, now) >= unchanged_s]
        for name in {_document(each) for each in unused}:
            of_document = [each for each in unused if _document(each) == name]
            with contextlib.suppress(errors.Conflict, errors.NotFound):
                await self._remove(of_document, found, name)

    def _unchanged_since(self, config: Config, now: float) -> float:
        return self._suspects.get((config.id, config.version), now)

    async def _remove(self, unused: Iterable[Config], found: Found, name: str) -> None:
        """Remove parts of the document `name`; without a name, barriers, which their owners recreate."""
        if name:
            if name not in found:  # without a head, a writer of the first revision cannot be fenced off
                return
            head = found[name]
            await self._swarm.update_config_labels(head, head.labels | {SWEPT: "yes"})
        for each in unused:
            await self._swarm.remove_config(each.id)


def _document(config: Config) -> str:
    return config.name.removeprefix(PART).rsplit("-", 2)[0] if config.name.startswith(PART) else ""
