"""One run: production replicas execute a scenario with faults, then must converge after all faults have stopped."""

import asyncio
import collections
import random
from collections.abc import Callable

import msgspec

from infrakit.instances.simulator import Faults
from infrakit.leadership.static import Static
from infrakit.manager.declaration import record
from infrakit.simulation.fault_injector import FaultInjector
from infrakit.simulation.hosts import Environment, Host, Process
from infrakit.simulation.laws import Laws
from infrakit.simulation.listing import ListingFlavor
from infrakit.simulation.loops import Timeline
from infrakit.simulation.parts import FaultyStore, FlavorFaults, SimulatedFlavor, StoreFaults
from infrakit.simulation.proxy import InspectingProxy, ProviderProxy, ReportingSimulator, WatchingProxy
from infrakit.simulation.quorum import Member, Observer, Quorum
from infrakit.simulation.scenario import GroupPlan, NodeClock, Scenario
from infrakit.simulation.workload import OperatorWorkload
from infrakit.spi import values
from infrakit.spi.event import Event, Kind
from infrakit.spi.manager import Status
from infrakit.spi.values import GroupID, InstanceID

CONVERGENCE_TIMEOUT_S = 3600.0  # simulated time within which a world without faults has to converge
QUIET_S = 70.0  # after this time, no message of the fault phase is still in transit
POLL_S = 30.0
SETTLE_TIMEOUT_S = 60.0  # simulated time, after the listing lag, within which intents have to be settled

PROXIES = (ProviderProxy, InspectingProxy, WatchingProxy)  # index: number of optional capabilities of the provider


class World:
    """The complete state of one run. Its own coroutines run on the first loop of the timeline."""

    def __init__(self, scenario: Scenario, timeline: Timeline, *, report: Callable[[str], None]) -> None:
        self.scenario = scenario
        self.timeline = timeline
        self.rng = random.Random(scenario.seed + 1)
        self.simulator = ReportingSimulator(scenario.faults, random=self.rng)
        self.laws = Laws(self.simulator, timeline, incomplete=scenario.incomplete)
        self.simulator.laws = self.laws
        self.store = FaultyStore(self.rng)
        self.store.watchers.append(self.laws.written)
        self.flavor = SimulatedFlavor(self.simulator, self.rng)
        if scenario.listing:
            self.flavor = listing = ListingFlavor(self.simulator, self.rng)
            listing.removals.append(self.laws.member_removed)
        self._report = report
        names = [f"n{number}" for number in range(1, len(scenario.node_clocks) + 1)]
        self.quorum = Quorum(timeline, names, self.rng, election_s=scenario.election_s)
        environment = Environment(
            timeline=timeline,
            laws=self.laws,
            provider=self.simulator,
            proxy=PROXIES[scenario.inspects + scenario.watches],
            flavor=self.flavor,
            poll_s=scenario.poll_s,
            report=self._on_change,
        )
        self.hosts = [self._host(n, environment, c) for n, c in zip(names, scenario.node_clocks, strict=True)]
        self.workload = OperatorWorkload(self.hosts, self.laws, self.rng)
        self.fault_injector = FaultInjector(self.hosts, self.quorum, self._kill_some)

    def _host(self, name: str, environment: Environment, clock: NodeClock) -> Host:
        rng, alone = random.Random(f"{self.scenario.seed} {name}"), len(self.scenario.node_clocks) == 1
        observer = Observer(self.quorum, name, rng, valid_s=self.scenario.valid_s)
        member = Member(self.store, self.quorum, name, self.timeline.world, rng)
        leadership = Static() if alone else observer
        return Host(name, self.scenario.seed, environment, member=member, observer=leadership, node_clock=clock)

    def _on_change(self, process: Process, event: Event) -> None:
        about = event.instance or event.slot or ""
        self._log(f"{process.name} {event.type:14} {event.group or '-':8} {about:10} {event.message}")
        if event.type is Kind.CONVERGED and event.group is not None:
            self.laws.converged(process.caller(), event.group)

    def _log(self, what: str) -> None:
        self._report(f"{self.timeline.now:9.2f} {what}")

    @property
    def figures(self) -> collections.Counter[str]:
        """Counters of what happened in this run."""
        counts = self.fault_injector.counts
        return collections.Counter(
            {
                "elections": self.quorum.elections,
                "stale leaders": self.quorum.stale_leaders,
                "epochs": self.laws.terms,
                "calls": self.laws.calls,
                "overlaps": self.laws.overlaps,
                "versions": len(self.laws.versions),
                "disputes": counts["dispute"],
                "pauses": counts["freeze"],
                "partitions": counts["partition"] + counts["cut"],
                "kills": counts["kill replica"] + counts["lose machine"],
            }
        )

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Run the scenario; return the first broken law, or an empty string."""
        steps = self.timeline.world.create_task(self._scenario_steps())
        self.timeline.run(lambda: self.laws.verdict or steps.done())
        if steps.done() and not self.laws.verdict:
            error = steps.exception()
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if error is not None:
                raise error
        return self.laws.verdict

    async def _scenario_steps(self) -> None:
        self.store.faults, self.flavor.faults = self.scenario.store, self.scenario.flavor
        async with asyncio.TaskGroup() as tasks:
            faults = tasks.create_task(self._inject_faults())
            for group in self.scenario.groups:
                await self.workload.commit(group)
            for at, what, number in self.scenario.operations:
                await self._until(at)
                group = self.scenario.groups[number % len(self.scenario.groups)]
                self._log(f"-- {what} {group.name}")
                await self._do(what, group, random.Random(number))
            await self._until(self.scenario.minutes * 60.0)
            faults.cancel()
        await self._converge()

    async def _inject_faults(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for at, what, number in self.scenario.replica_faults:
                await self._until(at)
                self._log(f"-- {what}")
                tasks.create_task(self.fault_injector.inject(what, random.Random(number)))

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.timeline.now))

    # -- operations ------------------------------------------------------------------------------------------------

    async def _do(self, what: str, group: GroupPlan, rng: random.Random) -> None:
        name, alive = GroupID(group.name), self._alive(group)
        match what:
            case "scale" | "version" | "bad version" | "members":
                await self.workload.declare(what, group, rng)
            case "halt":
                await self.workload.halt(rng.choice([None, name]), rng.uniform(10.0, 120.0))
            case "pause":
                await self.workload.pause(name, rng.uniform(10.0, 120.0))
            case "abort" | "rollback":
                await self.workload.end_rollout(name, rollback=what == "rollback")
            case "evict" | "shrink" if alive:
                await self.workload.evict(group, rng.choice(alive), replace=what == "evict" or group.pets)
            case "outage":
                await self._outage(rng.uniform(5.0, 200.0))
            case "seed" if not group.pets:
                self.simulator.adopt(tags={values.TAG_GROUP: name, values.TAG_HASH: values.BOOTSTRAP})
            case _:
                self._damage(what, alive, rng)

    async def _outage(self, for_s: float) -> None:
        self.simulator.faults = msgspec.structs.replace(self.simulator.faults, down=True)
        await asyncio.sleep(for_s)
        self.simulator.faults = msgspec.structs.replace(self.simulator.faults, down=False)

    def _damage(self, what: str, alive: list[InstanceID], rng: random.Random) -> None:
        count = max(1, len(alive) * 2 // 3) if what.endswith("many") else 1
        for instance in rng.sample(alive, min(count, len(alive))):
            if what.startswith("kill"):
                self.simulator.kill(instance)
            elif what.startswith("sicken"):
                self.simulator.make_unhealthy(instance)

    def _kill_some(self, rng: random.Random) -> None:
        alive = self.simulator.live()
        for machine in rng.sample(alive, min(len(alive), rng.choice([1, 1, 1, len(alive)]))):
            self.simulator.kill(machine.id)

    def _alive(self, group: GroupPlan) -> list[InstanceID]:
        return [m.id for m in self.simulator.live() if m.tags.get(values.TAG_GROUP) == group.name]

    # -- convergence ----------------------------------------------------------------------------------------------

    async def _converge(self) -> None:
        """Stop all faults, resume what is paused, and require that every group converges."""
        faults = self.scenario.faults
        self.simulator.faults = Faults(lag=faults.lag, termination_lag=faults.termination_lag, tokens=faults.tokens)
        self.store.faults, self.flavor.faults = StoreFaults(), FlavorFaults()
        self.fault_injector.heal()
        self._log("all faults stopped")
        await asyncio.sleep(QUIET_S)
        await self.workload.unhalt(None)  # a halt sent to a stalled replica may have taken effect late
        for group in self.scenario.groups:
            group.bad = False
            group.version += 1
            await self.workload.commit(group)
            await self.workload.unhalt(GroupID(group.name))
        until, status = self.timeline.now + CONVERGENCE_TIMEOUT_S, None
        while self.timeline.now < until:
            await asyncio.sleep(POLL_S)
            status = await self.workload.status()
            if status is None:
                continue
            if len(status.groups) == len(self.scenario.groups) and all(g.converged for g in status.groups):
                break
            for name in [g.name for g in status.groups if not g.converged]:
                await self.workload.resume_despite_unhealthy(name)
        else:
            raise AssertionError(
                f"not converged after {CONVERGENCE_TIMEOUT_S:.0f} s without faults: {_waiting(status)}"
            )
        await self._check_end()

    async def _check_end(self) -> None:
        for group in self.scenario.groups:
            self.laws.exact(GroupID(group.name), self.laws.record, "after all faults")
            self._check_list(group)
        history = await self.store.history(name=record.NAME, limit=len(self.laws.versions) + 1)
        self.laws.check_history({document.revision: document.body for document in history})
        leader = next(p for h in self.hosts if (p := h.process) is not None and p.epoch == self.laws.epoch)
        term = leader.replica.term
        until = self.timeline.now + self.simulator.faults.listing_lag_s + SETTLE_TIMEOUT_S
        while left := {n: i for n in self.laws.record.groups if (i := term and term.ledger.intents(n))}:
            if self.timeline.now > until:
                break
            await asyncio.sleep(POLL_S)
        if left and not self.laws.verdict:
            raise AssertionError(f"3 exactly one: leftover intents: {left}")

    def _check_list(self, group: GroupPlan) -> None:
        """Require that the member list matches the living instances, all of them promoted."""
        alive = {m.id for m in self.simulator.live() if m.tags.get(values.TAG_GROUP) == group.name and m.token}
        if isinstance(self.flavor, ListingFlavor) and alive:
            listed = self.flavor.listed(GroupID(group.name))
            voting = {instance for instance, entry in listed.items() if entry.voting}
            if not alive == voting == listed.keys():
                raise AssertionError(f"the member list of {group.name} has {sorted(listed)}; {sorted(alive)} are alive")


def _waiting(status: Status | None) -> object:
    if status is None:
        return "no replica leads"
    return [(g.name, g.phase, [w.reason for w in g.waiting]) for g in status.groups if not g.converged]
