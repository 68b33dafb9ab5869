"""Where the declaration of a cluster is kept, as somebody sees it who is about to make the cluster's first machine.

Either its store is asked, or the replicas of InfraKit on its own machines, which read it. Only an answer proves that
the store has its quorum. A replica is not proof by itself: it has to have read the store for us.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from infrakit.lifecycle.replicas import ANSWER_S, SILENT, Replicas
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.store import Declaration
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.group import Group
from infrakit.spi.store import Store

COMMIT_S = 30.0


class DeclarationAccess(Protocol):
    """Asked before anything is made, and until it answers."""

    answered: str  # a sentence
    silence: str  # the same for its contrary; after it comes a time

    @property
    def where(self) -> str:
        """What was asked, for errors."""
        ...

    async def answers(self) -> bool:
        """Whether it can be read now. With its quorum gone, it cannot: reads are linearizable. Raises `Refused`."""
        ...

    async def version(self) -> int:
        """Of the declaration in it; 0: none."""
        ...

    async def declare(self, groups: Sequence[Group], *, text: str, source: str, who: str, why: str) -> int:
        """Put the first declaration into it, and answer its version. Raises `Conflict` if there is one already."""
        ...


class DirectStore:
    """The store itself."""

    answered = "the store answers"
    silence = "the store does not answer"
    where = "store"

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._declaration = Declaration(store, clock)

    async def answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._store.read(name="declaration")
        except SILENT:
            return False
        return True

    async def version(self) -> int:
        await self._declaration.load()
        return self._declaration.version

    async def declare(self, groups: Sequence[Group], *, text: str, source: str, who: str, why: str) -> int:
        del text, source
        change = changes.declare(tuple(groups))
        return (await self._declaration.change(change, what="bootstrap", who=who, why=why, expected=0)).version


class ViaReplica:
    """Behind the replicas."""

    answered = "a replica answers"
    silence = "no replica answers"

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas

    @property
    def where(self) -> str:
        """Every address, and what was found there."""
        return "; ".join(f"{each}: {self.replicas.why.get(each, 'nothing yet')}" for each in self.replicas.places)

    async def answers(self) -> bool:
        try:
            await self.version()
        except errors.Unreachable:
            return False
        except errors.Refused as error:
            if not (at := self.replicas.at):
                raise
            await self.replicas.turn()  # its store refuses it: its machine may be no member yet
            self.replicas.why[at] = error.what
            return False
        return True

    async def version(self) -> int:
        newest = await self.replicas.ask("history", limit=1)
        return newest[0].version if newest else 0

    async def declare(self, groups: Sequence[Group], *, text: str, source: str, who: str, why: str) -> int:
        del groups
        arguments = {"text": text, "source": source, "who": who, "why": why, "expected": 0}
        committed = await self.replicas.ask("commit", within_s=COMMIT_S, **arguments)
        version: int = committed.version
        return version
