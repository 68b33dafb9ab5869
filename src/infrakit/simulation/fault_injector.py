"""Injects faults of replicas, of their links to the world, and of the quorum that they run on."""

import asyncio
import collections
import random
from collections.abc import Callable, Mapping, Sequence

from infrakit.manager.declaration import record
from infrakit.simulation.hosts import Host, Process
from infrakit.simulation.oracle import Oracle
from infrakit.simulation.parts import FaultyStore
from infrakit.simulation.quorum import STALE_S_MAX, Observer, Quorum
from infrakit.simulation.releases import Release
from infrakit.simulation.scenario import SKEW_S_MAX
from infrakit.simulation.workload import ATTEMPT_TIMEOUT_S, RETRYABLE, WHO
from infrakit.spi import errors

LEADER_SHARE = 0.7  # the share of faults that hit the leader


class FaultInjector:
    """Injects faults and undoes each after some time; several may overlap. `heal` undoes all of them."""

    def __init__(
        self,
        hosts: Sequence[Host],
        quorum: Quorum,
        store: FaultyStore,
        oracle: Oracle,
        kill_some: Callable[[random.Random], None],
    ) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._hosts = hosts
        self._quorum = quorum
        self._store = store
        self._oracle = oracle
        self._marks: list[Mapping[str, int]] = [{}]  # earlier states of the store
        self._is_restored = False  # and no operator has accepted it yet
        self._newest = Release.CURRENT  # of those that have run
        self._kill_some = kill_some  # kills instances, so that controllers have work to do

    async def inject(self, what: str, rng: random.Random) -> None:
        """Inject one fault and return after it has been undone."""
        self.counts[what] += 1
        host = self._pick_host(rng)
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
            case "flip":
                for _time in range(rng.randint(1, 6)):
                    self._quorum.flip(stale_s=rng.choice([0.0, rng.uniform(0.0, STALE_S_MAX)]))
                    await asyncio.sleep(rng.uniform(0.3, 8.0))
            case "deaf" | "jump" | "release" | "partition":
                await self._node_fault(what, host, rng)
            case "fork":
                await self._fork(host, rng)
            case "old reads" | "restore":
                await self._store_fault(what, rng)
            case _ if process is not None:
                await self._process_fault(what, host, process, rng)

    async def _change_releases(self, hosts: Sequence[Host], rng: random.Random) -> None:
        """Upgrade or downgrade replicas one by one, and let all be of the newest release later."""
        release = rng.choice(list(Release))
        for host in hosts:
            await self._change_release(host, release, rng)
        await asyncio.sleep(rng.uniform(10.0, 120.0))
        for host in self._hosts:
            if host.release is not self._newest:
                await self._change_release(host, self._newest, rng)

    async def _change_release(self, host: Host, release: Release, rng: random.Random) -> None:
        """Upgrade or downgrade one replica, which is stopped or has crashed."""
        if rng.random() < 0.5:
            await host.stop()
        else:
            host.kill()
        host.release = release
        if release is Release.NEXT:
            self._newest = Release.NEXT  # from now on, documents may have its format
        await asyncio.sleep(rng.choice([0.0, 1.0, 20.0]))
        host.start()

    def remember(self) -> None:
        """Take a backup of the store."""
        if mark := self._store.mark():
            self._marks.append(mark)

    async def _node_fault(self, what: str, host: Host, rng: random.Random) -> None:
        if what == "partition":
            await self._partition(host, rng)
        elif what == "jump":
            host.clock.skew_s = rng.uniform(-SKEW_S_MAX, SKEW_S_MAX)
        elif what == "release":
            await self._change_releases(rng.choice([[host], rng.sample(self._hosts, len(self._hosts))]), rng)
        else:
            host.member.deaf = True
            await asyncio.sleep(rng.uniform(10.0, 120.0))
            host.member.deaf = False

    async def _store_fault(self, what: str, rng: random.Random) -> None:
        """Show an earlier state for a while; or restore it, which replicas refuse until an operator accepts it."""
        if not self._marks:
            return
        state = rng.choice(self._marks)
        self._oracle.facts.permit(what)
        if what == "old reads":
            self._store.show(state)
            await asyncio.sleep(rng.uniform(1.0, 30.0))
            self._store.shows_old = False
            return
        self._store.restore(state)
        # After this, only a fork can lose everything again.
        older = [mark for mark in self._marks if all(r <= state.get(name, 0) for name, r in mark.items())]
        self._marks = [mark for mark in older if mark]
        self._oracle.restored(state)
        self._is_restored = True
        await asyncio.sleep(rng.uniform(0.0, 20.0))
        self._accept()

    async def _fork(self, host: Host, rng: random.Random) -> None:
        """Let one node use a copy of the store for a while, as if that had been restored elsewhere beside it."""
        self._oracle.facts.permit("fork")
        self._oracle.forked()
        host.member.use(self._store.fork())
        try:
            await asyncio.sleep(rng.uniform(5.0, 60.0))
        finally:
            host.member.use(self._store)
            self._oracle.rejoined(self._store.mark(), self._store.documents(record.NAME))
            self._is_restored = True
        await asyncio.sleep(rng.uniform(0.0, 20.0))
        self._accept()

    def _accept(self) -> None:
        """Restart every replica such that it accepts the older store."""
        self._is_restored = False
        for host in self._hosts:
            host.accepts_store = True
            if host.process is not None:
                host.kill()
                host.start()

    def _pick_host(self, rng: random.Random) -> Host:
        leading = [h for h in self._hosts if h.name == self._quorum.leader]
        return leading[0] if leading and rng.random() < LEADER_SHARE else rng.choice(self._hosts)

    async def _lose_machine(self, host: Host, for_s: float) -> None:
        host.kill()
        self._quorum.lose(host.name)
        await asyncio.sleep(for_s)
        self._quorum.regain(host.name)
        host.start()

    async def _partition(self, host: Host, rng: random.Random) -> None:
        """Partition a node from the quorum, alone or within a minority; sometimes cut its link to the provider too."""
        others = [h for h in self._hosts if h is not host]
        minority = (len(self._hosts) - 1) // 2
        isolated = [host, *rng.sample(others, rng.randint(0, minority - 1))] if minority else []
        links = [h.process.provider_link for h in isolated if h.process is not None and rng.random() < 0.5]
        self._quorum.partition([h.name for h in isolated])
        for link in links:
            link.cut(refusing=rng.random() < 0.5)
        await asyncio.sleep(rng.uniform(1.0, 60.0))
        self._quorum.heal()
        for link in links:
            link.heal()

    async def _process_fault(self, what: str, host: Host, process: Process, rng: random.Random) -> None:
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
                process.store_link.slow_s = rng.choice([0.3, 1.0, 3.0])
                await asyncio.sleep(rng.uniform(5.0, 60.0))
                process.store_link.slow_s = 0.0
            case "resign":
                try:
                    async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                        await process.operator_link.call(process.replica.resign, WHO, "simulation")
                except (*RETRYABLE, errors.Refused):
                    return

    async def _dispute(self, process: Process, rng: random.Random) -> None:
        """Elect another leader while the current one is at work, learns of it late, and still claims leadership."""
        process.store_link.slow_s = rng.choice([0.0, 0.5, 1.0, 2.0])
        elected_after = rng.randint(5, 25)
        for second in range(elected_after + 10):
            if second == elected_after:
                self._quorum.flip(stale_s=rng.uniform(2.0, STALE_S_MAX), at_once=rng.random() < 0.5)
            self._kill_some(rng)
            await asyncio.sleep(rng.uniform(0.2, 1.5))
        process.store_link.slow_s = 0.0

    async def _cut(self, host: Host, process: Process, rng: random.Random) -> None:
        """Cut a replica off from store, provider, leadership observations, or several; its node keeps running."""
        refusing = rng.random() < 0.5
        links = [link for link in (process.store_link, process.provider_link) if rng.random() < 0.5]
        blind = isinstance(host.observer, Observer) and rng.random() < 0.3
        for link in links:
            link.cut(refusing=refusing)
        self._blind(host, blind)
        await asyncio.sleep(rng.uniform(1.0, 60.0))
        for link in links:
            link.heal()
        self._blind(host, False)

    def _blind(self, host: Host, blind: bool) -> None:
        if isinstance(host.observer, Observer):
            host.observer.blind = blind

    def heal(self) -> None:
        """Undo every fault, and make sure that every replica runs."""
        self._store.shows_old = False
        for host in self._hosts:
            self._quorum.regain(host.name)
            host.heal(self._newest)
        if self._is_restored:
            self._accept()
        self._quorum.heal()
