"""A node of the quorum and its replica: a production `Replica` in a simulated process that can be restarted."""

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

from infrakit.events.journal import Journal
from infrakit.leadership.static import Static
from infrakit.manager.api.manager import Operator
from infrakit.manager.api.roster import Roster
from infrakit.manager.lead.replica import Replica
from infrakit.manager.lead.watermark import Watermark, WatermarkGuard
from infrakit.simulation import releases
from infrakit.simulation.bridge import Link, remote
from infrakit.simulation.cloud import Cloud
from infrakit.simulation.loops import Timeline, WallClock
from infrakit.simulation.oracle import Caller, Oracle
from infrakit.simulation.parts import Plugins, SimulatedFlavor
from infrakit.simulation.proxy import ProviderProxy, checked
from infrakit.simulation.quorum import Member, Observer
from infrakit.simulation.releases import Release, StoreOfRelease
from infrakit.simulation.scenario import NodeClock
from infrakit.spi import errors
from infrakit.spi.event import Event
from infrakit.spi.flavor import MadeFrom
from infrakit.spi.leadership import Leadership
from infrakit.spi.values import LogicalID

DRIFT_MAX = 1.05  # the documented bound on how much two clocks may differ in measuring one duration


class Environment(NamedTuple):
    """The shared dependencies of every simulated replica."""

    timeline: Timeline
    oracle: Oracle
    cloud: Cloud
    proxy: type[ProviderProxy]
    flavor: SimulatedFlavor
    poll_s: float
    report: Callable[["Process", Event], None]


class Process:
    """One simulated process of a replica, with its links to the store, the provider and the operator."""

    def __init__(
        self,
        host: "Host",
        number: int,
        environment: Environment,
        *,
        member: Member,
        leadership: Leadership,
        node_clock: NodeClock,
    ) -> None:
        timeline, rng = environment.timeline, random.Random(f"{host.seed} {host.name} {number}")
        self.name = host.name
        self.number = number
        self.stopping = False
        self.terminated = asyncio.Event()
        self.loop = timeline.loop(rate=node_clock.rate, offset_s=node_clock.offset_s)
        self.store_link = Link(timeline, self.loop, timeline.world, rng)
        self.provider_link = Link(timeline, self.loop, timeline.world, rng)
        self.operator_link = Link(timeline, timeline.world, self.loop, rng)
        clock = host.clock
        journal = Journal(None, clock=clock)
        oracle, cloud = environment.oracle, environment.cloud
        proxy = environment.proxy(remote(cloud, self.provider_link), cloud, oracle, self.caller)
        flavor = checked(remote(environment.flavor, self.provider_link), oracle, self.caller)
        if isinstance(environment.flavor, MadeFrom):
            vars(flavor)["made_from"] = environment.flavor.made_from  # a pure function, and no call
        store = remote(StoreOfRelease(member, host.release), self.store_link)
        self._roster = Roster(store, host.name, releases.entry(host.name, host.release)) if host.in_roster else None
        self.replica = Replica(
            name=host.name,
            store=store,
            leadership=leadership,
            plugins=Plugins(proxy, flavor),
            clock=clock,
            random=rng,
            emit=lambda event: None if timeline.over else environment.report(self, journal.emit(event)),
            poll_s=environment.poll_s,
            is_self=lambda member: member.logical_id is not None and member.logical_id == host.logical_id,
            watermark=WatermarkGuard(host.mark, keep=host.keep_mark, accept=host.accepts_store),
        )
        operator = Operator(self.replica, history=journal, stop=lambda: None)
        self.operator = remote(operator, self.operator_link)
        self._timeline = timeline
        self.task = self.loop.create_task(self._run(accepts=host.accepts_store))
        self.task.add_done_callback(self._on_terminated)

    async def _run(self, *, accepts: bool) -> None:
        """Run the replica; one that is to accept an older store checks the store first, as the daemon does."""
        while accepts:
            try:
                await self.replica.check_store()
                break
            except (errors.InfraKitError, TimeoutError):
                await asyncio.sleep(1.0)
        async with asyncio.TaskGroup() as tasks:
            if self._roster is not None:
                tasks.create_task(self._roster.keep())
            await self.replica.run()

    @property
    def links(self) -> tuple[Link, ...]:
        return self.store_link, self.provider_link, self.operator_link

    @property
    def epoch(self) -> int:
        """The epoch (fencing token) of the current leadership term; 0 if there is none."""
        term = self.replica.term
        return term.ledger.epoch if term is not None else 0

    def caller(self) -> Caller:
        """Return the identity, epoch and leadership deadline under which this process makes calls now."""
        seen = self.replica.observation
        until = 0.0
        if seen is not None and seen.leader:
            until = self.loop.true_time(seen.begun_at) + seen.valid_s * DRIFT_MAX
        return Caller(name=f"{self.name}.{self.number}", epoch=self.epoch, leads_until=until)

    def _on_terminated(self, task: asyncio.Task[None]) -> None:
        self.terminated.set()
        if not task.cancelled() and (error := task.exception()) is not None and self._timeline.crash is None:
            self._timeline.crash = error


class Host:
    """A node whose replica starts, stalls, is killed and restarts."""

    def __init__(
        self,
        name: str,
        seed: int,
        environment: Environment,
        *,
        member: Member,
        observer: Observer | Static,
        node_clock: NodeClock,
        logical_id: LogicalID | None = None,
        in_roster: bool = False,
    ) -> None:
        self.name = name
        self.seed = seed
        self.release = Release.CURRENT
        self.in_roster = in_roster  # its replicas name their release in the roster
        self.logical_id = logical_id  # of the member that is this node, if it is one
        self.clock = WallClock(environment.timeline, skew_s=node_clock.skew_s)
        self.mark = Watermark()  # what is on its disk
        self.accepts_store = False  # an operator has accepted an older store
        self.observer = observer
        self._environment = environment
        self.member = member
        self._node_clock = node_clock
        self._starts = 0
        self.process: Process | None = None
        self.start()

    async def keep_mark(self, mark: Watermark) -> None:
        """Write the high-water mark of the store to the disk of the node."""
        self.mark = mark

    def start(self) -> None:
        """Start the replica unless it is running."""
        if self.process is None:
            self._starts += 1
            self.process = Process(
                self,
                self._starts,
                self._environment,
                member=self.member,
                leadership=self.observer,
                node_clock=self._node_clock,
            )

    def kill(self) -> None:
        """Kill the replica without cleanup. Messages that it has already sent are still delivered."""
        if self.process is not None:
            self.process.loop.kill()
            self.process.terminated.set()
            self.process = None

    async def stop(self) -> None:
        """Stop the replica cleanly, like SIGTERM. A stalled replica stops after it resumes."""
        process = self.process
        if process is None:
            return
        process.stopping = True
        process.loop.receive(process.task.cancel)
        await process.terminated.wait()
        if process is self.process:
            self.kill()

    def heal(self, release: Release) -> None:
        """Undo every fault of this node and make sure that its replica runs, and is of that release."""
        if isinstance(self.observer, Observer):
            self.observer.blind = False
        self.member.deaf = False
        if self.process is not None and (self.process.stopping or self.release is not release):
            self.kill()
        self.release = release
        self.start()
        process = self.process
        if process is not None:
            process.loop.resume()
            for link in process.links:
                link.slow_s = 0.0
                link.heal()
