"""Looking at the heads of all documents, with a proof that the answer is not an old one (law 1).

A Swarm answers from the memory of whoever leads it, and a leader that has lost its quorum goes on answering for about
ten seconds; one that was just elected may not have caught up. So a look that has to be true first commits something: a
number in the label of a config of this process's own, its *barrier*. Then one listing, which is of one moment, shows
the heads and the barrier. If the barrier bears that number, then the heads are at least as new as the moment of the
commit, whoever answered. A commit needs the majority: without it there is no answer at all.

One barrier serves all who wait when it begins.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Mapping
from typing import Final

import msgspec

from infrakit.clients.swarm import READ_S, Swarm
from infrakit.clients.swarm_values import Config
from infrakit.spi import errors

HEAD: Final = "infrakit-head-"
BARRIER: Final = "infrakit-barrier-"
COUNT: Final = "infrakit.count"
ATTEMPTS_MAX = 5
RETRY_S = 0.05
WHAT_IT_IS = b"With this InfraKit proves that what it reads is not old. It may be removed at any time.\n"

Found = Mapping[str, Config]  # by the name of the document


class _Round(msgspec.Struct, frozen=True):
    """What the last proof brought, and its number."""

    number: int
    found: Found
    error: errors.InfraKitError | None = None


class Heads:
    """The heads in one Swarm."""

    def __init__(self, swarm: Swarm, rng: random.Random) -> None:
        self._swarm = swarm
        self._barrier = f"{BARRIER}{rng.getrandbits(64):016x}"
        self._own: Config | None = None  # the barrier, as of the last look
        self._count = 0
        self._begun = 0  # proofs
        self._turn = asyncio.Lock()
        self._last = _Round(0, {})
        self._remembered: tuple[float, Found] = (-math.inf, {})
        self._looking = asyncio.Lock()

    async def proven(self) -> Found:
        """As they were at a moment after this call. Raises `Unreachable`, `Refused`."""
        arrived = self._begun
        async with self._turn:
            if self._last.number <= arrived:  # else one began since
                self._begun += 1
                self._last = await self._round(self._begun)
        if self._last.error is not None:
            raise self._last.error.with_traceback(None)
        return self._last.found

    async def remembered(self) -> Found:
        """As whoever leads remembers them, or who believes to lead."""
        at = asyncio.get_running_loop().time()
        found = _heads(await self._swarm.configs({"name": [HEAD]}))
        self._remembered = at, found
        return found

    async def glimpsed(self, *, age_s: float) -> Found:
        """The same, from a listing that is no older than that: one serves all who ask."""
        async with self._looking:
            at, found = self._remembered
            if asyncio.get_running_loop().time() - at < age_s:
                return found
            return await self.remembered()

    async def close(self) -> None:
        """Take the barrier away, if that is done at once."""
        own, self._own = self._own, None
        if own is not None:
            with contextlib.suppress(errors.InfraKitError):
                await self._swarm.remove_config(own.id, deadline_s=1.0)

    # -- the proof -------------------------------------------------------------------------------------------------

    async def _round(self, number: int) -> _Round:
        try:
            return _Round(number, await self._prove())
        except errors.OutcomeUnknown as error:  # a barrier that may stand hurts nobody: nothing was read, is all
            return _Round(number, {}, errors.Unreachable(error.what, where=error.where))
        except errors.InfraKitError as error:
            return _Round(number, {}, error)

    async def _prove(self) -> Found:
        for attempt in range(ATTEMPTS_MAX):
            await asyncio.sleep(RETRY_S * attempt)
            self._count += 1
            own, self._own = self._own, None
            try:
                await self._commit(own)
            except (errors.Conflict, errors.NotFound):  # only a commit that was acknowledged proves anything
                continue
            configs = await self._swarm.configs({"name": [HEAD, self._barrier]})
            own = self._mine(configs)
            if own is not None and own.labels.get(COUNT) == str(self._count):
                self._own = own
                return _heads(configs)
        raise errors.Unreachable("its answers are older than what it has acknowledged", where=self._swarm.where)

    async def _commit(self, own: Config | None) -> None:
        labels = {COUNT: str(self._count)}
        own = own or self._mine(await self._swarm.configs({"name": [self._barrier]}))
        if own is None:
            await self._swarm.create_config(self._barrier, labels=labels, data=WHAT_IT_IS, deadline_s=READ_S)
        else:
            await self._swarm.update_config_labels(own, labels, deadline_s=READ_S)

    def _mine(self, configs: list[Config]) -> Config | None:
        return next((each for each in configs if each.name == self._barrier), None)


def _heads(configs: list[Config]) -> Found:
    return {each.name.removeprefix(HEAD): each for each in configs if each.name.startswith(HEAD)}
