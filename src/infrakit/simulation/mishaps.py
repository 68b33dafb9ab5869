"""What befalls replicas, the lines between them and the world, and the quorum that they run on."""

import asyncio
import collections
import random
from collections.abc import Callable, Sequence

from infrakit.simulation.hosts import Host, Process
from infrakit.simulation.operating import ASK_ANOTHER, PATIENCE_S, WHO
from infrakit.simulation.quorum import STALE_S_MAX, Observer, Quorum
from infrakit.spi import errors

LEADER_SHARE = 0.7  # of what befalls anybody befalls the leader


class Mishaps:
    """Each is done and undone; several may overlap. `mend` undoes all."""

    def __init__(self, hosts: Sequence[Host], quorum: Quorum, harm: Callable[[random.Random], None]) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._hosts = hosts
        self._quorum = quorum
        self._harm = harm  # an instance dies, so that there is something to do

    async def happen(self, what: str, rng: random.Random) -> None:
        """To its end."""
        self.counts[what] += 1
        host = self._somebody(rng)
        process = host.process
        match what:
            case "crash":
                await host.stop()
                await asyncio.sleep(rng.choice([0.0, 1.0, 60.0]))
                host.start()
            case "kill replica":
                host.kill()
                await asyncio.sleep(rng.choice([0.0, 1.0, 60.0]))
                host.start()
            case "lose machine":
                await self._lose_machine(host, rng.uniform(5.0, 120.0))
            case "partition":
                await self._part(host, rng)
            case "flip":
                for _time in range(rng.randint(1, 6)):
                    self._quorum.flip(stale_s=rng.choice([0.0, rng.uniform(0.0, STALE_S_MAX)]))
                    await asyncio.sleep(rng.uniform(0.3, 8.0))
            case _ if process is not None:
                await self._trouble(what, host, process, rng)

    def _somebody(self, rng: random.Random) -> Host:
        leading = [h for h in self._hosts if h.name == self._quorum.leader]
        return leading[0] if leading and rng.random() < LEADER_SHARE else rng.choice(self._hosts)

    async def _lose_machine(self, host: Host, for_s: float) -> None:
        host.kill()
        self._quorum.lose(host.name)
        await asyncio.sleep(for_s)
        self._quorum.regain(host.name)
        host.start()

    async def _part(self, host: Host, rng: random.Random) -> None:
        """Cut a node off, alone or with the minority, sometimes from the provider too."""
        others = [h for h in self._hosts if h is not host]
        minority = (len(self._hosts) - 1) // 2
        apart = [host, *rng.sample(others, rng.randint(0, minority - 1))] if minority else []
        lines = [h.process.to_provider for h in apart if h.process is not None and rng.random() < 0.5]
        self._quorum.part([h.name for h in apart])
        for line in lines:
            line.cut(refusing=rng.random() < 0.5)
        await asyncio.sleep(rng.uniform(1.0, 60.0))
        self._quorum.mend()
        for line in lines:
            line.mend()

    async def _trouble(self, what: str, host: Host, process: Process, rng: random.Random) -> None:
        match what:
            case "freeze":
                process.loop.stall(after=rng.choice([0, 0, 1, 2, 5, 20]))
                await asyncio.sleep(rng.choice([rng.uniform(1.0, 5.0), rng.uniform(1.0, 60.0)]))
                process.loop.resume()
            case "cut":
                await self._cut(host, process, rng)
            case "dispute":
                await self._dispute(process, rng)
            case "slow store":
                process.to_store.slow_s = rng.choice([0.3, 1.0, 3.0])
                await asyncio.sleep(rng.uniform(5.0, 60.0))
                process.to_store.slow_s = 0.0
            case "resign":
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        await process.to_operator.call(process.replica.resign, WHO, "simulation")
                except (*ASK_ANOTHER, errors.Refused):
                    return

    async def _dispute(self, process: Process, rng: random.Random) -> None:
        """Another is elected while whoever leads is at work, hears of it late, and goes on believing."""
        process.to_store.slow_s = rng.choice([0.0, 0.5, 1.0, 2.0])
        elected_after = rng.randint(5, 25)
        for second in range(elected_after + 10):
            if second == elected_after:
                self._quorum.flip(stale_s=rng.uniform(2.0, STALE_S_MAX), at_once=rng.random() < 0.5)
            self._harm(rng)
            await asyncio.sleep(rng.uniform(0.2, 1.5))
        process.to_store.slow_s = 0.0

    async def _cut(self, host: Host, process: Process, rng: random.Random) -> None:
        """Cut a replica off from the store, the provider, who leads, or several of them; its node stays."""
        refusing = rng.random() < 0.5
        lines = [line for line in (process.to_store, process.to_provider) if rng.random() < 0.5]
        blind = isinstance(host.observer, Observer) and rng.random() < 0.3
        for line in lines:
            line.cut(refusing=refusing)
        self._blind(host, blind)
        await asyncio.sleep(rng.uniform(1.0, 60.0))
        for line in lines:
            line.mend()
        self._blind(host, False)

    def _blind(self, host: Host, blind: bool) -> None:
        if isinstance(host.observer, Observer):
            host.observer.blind = blind

    def mend(self) -> None:
        """Everything is well again, and every replica runs."""
        for host in self._hosts:
            self._quorum.regain(host.name)
            host.mend()
        self._quorum.mend()
