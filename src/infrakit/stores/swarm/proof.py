"""Linearizable reads of the heads of all documents, although a Swarm answers reads from memory (law 1).

A leader that has lost its quorum keeps answering from memory for about ten seconds, and one that was just elected may
not have caught up. So a read that must not be stale first commits a number, as the label of a config that only this
process uses: its *barrier*. Then one listing, which is a consistent snapshot, shows the heads and the barrier. If the
barrier has that number, the heads are at least as new as the commit, whichever manager answered. A commit needs the
majority: without a quorum the read fails.

One barrier serves all reads that are waiting when it begins.
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
CONFIG_TEXT = b"InfraKit writes this config to prove that its reads are not stale. It may be removed at any time.\n"

Found = Mapping[str, Config]  # by the name of the document


class _Proof(msgspec.Struct, frozen=True):
    """The result of one proof, and its number."""

    number: int
    found: Found
    error: errors.InfraKitError | None = None


class Heads:
    """Reads the heads of all documents in one Swarm."""

    def __init__(self, swarm: Swarm, rng: random.Random) -> None:
        self._swarm = swarm
        self._barrier = f"{BARRIER}{rng.getrandbits(64):016x}"
        self._own: Config | None = None  # the barrier, as last listed
        self._count = 0
        self._begun = 0  # number of proofs that have begun
        self._proving = asyncio.Lock()
        self._last = _Proof(0, {})
        self._last_listing: tuple[float, Found] = (-math.inf, {})
        self._listing = asyncio.Lock()

    async def linearizable(self) -> Found:
        """Read the heads as of a time after this call began. Raises `Unreachable`, `Refused`."""
        arrived = self._begun
        async with self._proving:
            if self._last.number <= arrived:  # otherwise a proof began after this call did
                self._begun += 1
                self._last = await self._prove_once(self._begun)
        if self._last.error is not None:
            raise self._last.error.with_traceback(None)
        return self._last.found

    async def possibly_stale(self) -> Found:
        """Read the heads from the memory of the leader, or of a previous leader that has not noticed: maybe stale."""
        at = asyncio.get_running_loop().time()
        found = _heads(await self._swarm.configs({"name": [HEAD]}))
        self._last_listing = at, found
        return found

    async def recent(self, *, age_s: float) -> Found:
        """Return heads from a listing that is at most `age_s` old and may be stale; one listing serves all callers."""
        async with self._listing:
            at, found = self._last_listing
            if asyncio.get_running_loop().time() - at < age_s:
                return found
            return await self.possibly_stale()

    async def close(self) -> None:
        """Remove the barrier, with a timeout of one second."""
        own, self._own = self._own, None
        if own is not None:
            with contextlib.suppress(errors.InfraKitError):
                await self._swarm.remove_config(own.id, deadline_s=1.0)

    # -- the proof -------------------------------------------------------------------------------------------------

    async def _prove_once(self, number: int) -> _Proof:
        try:
            return _Proof(number, await self._prove())
        except errors.OutcomeUnknown as error:  # the barrier may exist, which is harmless; nothing was read
            return _Proof(number, {}, errors.Unreachable(error.what, where=error.where))
        except errors.InfraKitError as error:
            return _Proof(number, {}, error)

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
            own = self._find_barrier(configs)
            if own is not None and own.labels.get(COUNT) == str(self._count):
                self._own = own
                return _heads(configs)
        raise errors.Unreachable("its reads are older than writes that it has acknowledged", where=self._swarm.where)

    async def _commit(self, own: Config | None) -> None:
        labels = {COUNT: str(self._count)}
        own = own or self._find_barrier(await self._swarm.configs({"name": [self._barrier]}))
        if own is None:
            await self._swarm.create_config(self._barrier, labels=labels, data=CONFIG_TEXT, deadline_s=READ_S)
        else:
            await self._swarm.update_config_labels(own, labels, deadline_s=READ_S)

    def _find_barrier(self, configs: list[Config]) -> Config | None:
        return next((each for each in configs if each.name == self._barrier), None)


def _heads(configs: list[Config]) -> Found:
    return {each.name.removeprefix(HEAD): each for each in configs if each.name.startswith(HEAD)}
