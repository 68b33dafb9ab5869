"""Access to the declaration of a cluster, for commands that may have to create the cluster's first machine.

The declaration is read directly from its store, or through an InfraKit replica on the cluster's own machines. Only a
completed read of the store proves that it has its quorum; a running replica does not.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from infrakit.lifecycle.replicas import ANSWER_S, NO_ANSWER, Replicas
from infrakit.manager.declaration import ownership
from infrakit.manager.declaration.store import Declaration
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.group import Group
from infrakit.spi.store import Store

COMMIT_S = 30.0


class DeclarationAccess(Protocol):
    """Reads and writes the declaration. It is polled before a machine is created, and until it answers."""

    answered: str  # the sentence for a success
    no_answer: str  # the sentence for a failure; a duration may follow it

    @property
    def where(self) -> str:
        """The location for an error: what was queried."""
        ...

    async def answers(self) -> bool:
        """Whether it can be read now. Reads are linearizable, so they fail without a quorum. Raises `Refused`."""
        ...

    async def version(self) -> int:
        """The current version of the declaration; 0 if there is none."""
        ...

    async def declare(
        self, groups: Sequence[Group], *, text: str, source: str, who: str, why: str, adopts: str = ""
    ) -> int:
        """Write the first declaration and return its version. Raises `Conflict` if there is one already.

        `adopts`: a cluster whose instances belong to this one, unless it is empty.
        """
        ...

    async def adopt(self, cluster: str, *, who: str, why: str) -> int:
        """Declare that the instances of that cluster belong to this one; return the version of the declaration."""
        ...


class DirectStore:
    """Reads and writes the store directly."""

    answered = "the store answers"
    no_answer = "the store does not answer"
    where = "store"

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._declaration = Declaration(store, clock)

    async def answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._store.read(name="declaration")
        except NO_ANSWER:
            return False
        return True

    async def version(self) -> int:
        await self._declaration.load()
        return self._declaration.version

    async def declare(
        self, groups: Sequence[Group], *, text: str, source: str, who: str, why: str, adopts: str = ""
    ) -> int:
        del text, source
        change = ownership.declare(tuple(groups), adopts)
        return (await self._declaration.change(change, what="bootstrap", who=who, why=why, expected=0)).version

    async def adopt(self, cluster: str, *, who: str, why: str) -> int:
        return (await self._declaration.change(ownership.adopt(cluster), what="adopt", who=who, why=why)).version


class ViaReplica:
    """Reads and writes the declaration through a replica."""

    answered = "a replica answers"
    no_answer = "no replica answers"

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas

    @property
    def where(self) -> str:
        """All addresses, each with its last failure."""
        return "; ".join(f"{each}: {self.replicas.why.get(each, 'not contacted yet')}" for each in self.replicas.places)

    async def answers(self) -> bool:
        try:
            await self.version()
        except errors.Unreachable:
            return False
        except errors.Refused as error:
            if not (at := self.replicas.at):
                raise
            await self.replicas.switch()  # the store refuses this replica: its machine may not be a member yet
            self.replicas.why[at] = error.what
            return False
        return True

    async def version(self) -> int:
        newest = await self.replicas.ask("history", limit=1)
        return newest[0].version if newest else 0

    async def declare(
        self, groups: Sequence[Group], *, text: str, source: str, who: str, why: str, adopts: str = ""
    ) -> int:
        del groups
        arguments = {"text": text, "source": source, "who": who, "why": why, "expected": 0, "adopts": adopts}
        committed = await self.replicas.ask("commit", within_s=COMMIT_S, **arguments)
        version: int = committed.version
        return version

    async def adopt(self, cluster: str, *, who: str, why: str) -> int:
        committed = await self.replicas.ask("adopt", within_s=COMMIT_S, cluster=cluster, who=who, why=why)
        version: int = committed.version
        return version
