"""Removing what writers that lost or died have left behind: parts that no head names, barriers that nobody moves.

A part without a head may still belong to a writer that is about to swap, however long ago it made it: machines sleep.
So before such parts go, the head is changed in nothing but its version. A writer that looked before that loses its swap
and begins anew, with new parts; one that looks after it makes its parts after they were listed here.
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
EVERY_S = 300.0
LEFT_S = 600.0  # for so long nothing was seen to happen to it


class Sweep:
    """What was seen without an owner, and since when (loop time)."""

    def __init__(self, swarm: Swarm, heads: Heads) -> None:
        self._swarm = swarm
        self._heads = heads
        self._suspects: dict[tuple[str, int], float] = {}  # by ID and version
        self._due_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin_if_due(self) -> None:
        """In the background; what fails is left to the next time."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._due_at and (self._task is None or self._task.done()):
            self._due_at = loop.time() + EVERY_S
            self._task = loop.create_task(self._quietly())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _quietly(self) -> None:
        with contextlib.suppress(errors.InfraKitError):
            await self.sweep()

    async def sweep(self, *, left_s: float = LEFT_S) -> None:
        """Once. Raises what keeps it from looking."""
        listed = await self._swarm.configs({"name": [PART, BARRIER]})
        found = await self._heads.proven()
        named, damaged = set[str](), set[str]()
        for name, each in found.items():
            try:
                named |= decode(each.labels.get(LABEL, ""), name).parts
            except errors.Refused:  # whoever mends it needs its parts
                damaged.add(name)
        now = asyncio.get_running_loop().time()
        suspects = [each for each in listed if each.id not in named and _document(each) not in damaged]
        self._suspects = {(each.id, each.version): self._since(each, now) for each in suspects}
        left = [each for each in suspects if now - self._since(each, now) >= left_s]
        for name in {_document(each) for each in left}:
            of_it = [each for each in left if _document(each) == name]
            with contextlib.suppress(errors.Conflict, errors.NotFound):
                await self._remove(of_it, found, name)

    def _since(self, config: Config, now: float) -> float:
        return self._suspects.get((config.id, config.version), now)

    async def _remove(self, left: Iterable[Config], found: Found, name: str) -> None:
        """`name` is that of their document; empty: they are barriers, which their owners make anew."""
        if name:
            if name not in found:  # a first revision that was never written: nothing could keep its writer off
                return
            head = found[name]
            await self._swarm.update_config_labels(head, head.labels | {SWEPT: "yes"})
        for each in left:
            await self._swarm.remove_config(each.id)


def _document(config: Config) -> str:
    return config.name.removeprefix(PART).rsplit("-", 2)[0] if config.name.startswith(PART) else ""
