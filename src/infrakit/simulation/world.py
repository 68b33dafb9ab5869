"""One run: production replicas execute a scenario with faults, then must converge after all faults have stopped."""

import asyncio
import collections
import random
from collections.abc import Callable, Mapping

from infrakit.group.ledger import Intent
from infrakit.instances.simulator import Machine
from infrakit.leadership.static import Static
from infrakit.manager.declaration import record
from infrakit.manager.lead import ledger
from infrakit.simulation import proxy
from infrakit.simulation.cloud import Cloud
from infrakit.simulation.disturbances import Disturbances
from infrakit.simulation.fault_injector import FaultInjector
from infrakit.simulation.hosts import Environment, Host, Process
from infrakit.simulation.listing import ListingFlavor, ReleasingFlavor, VotingFlavor
from infrakit.simulation.loops import Timeline
from infrakit.simulation.oracle import Oracle, whole
from infrakit.simulation.parts import FaultyStore, FlavorFaults, KnowsParts, SimulatedFlavor, StoreFaults
from infrakit.simulation.quorum import Member, Observer, Quorum
from infrakit.simulation.scenario import GroupPlan, NodeClock, Scenario
from infrakit.simulation.workload import OperatorWorkload
from infrakit.spi import codec, values
from infrakit.spi.event import Event
from infrakit.spi.manager import Status
from infrakit.spi.values import GroupID, LogicalID, Slot

CONVERGENCE_TIMEOUT_S = 3600.0  # simulated time within which a world without faults has to converge
QUIET_S = 70.0  # after this time, no message of the fault phase is still in transit
POLL_S = 30.0
SETTLE_TIMEOUT_S = 60.0  # simulated time, after the listing lag, within which intents have to be settled

OWN_NODE_S = 120.0  # after that, the node of a member runs on another machine
BOOT_S = 10.0


class World:
    """The complete state of one run. Its own coroutines run on the first loop of the timeline."""

    def __init__(self, scenario: Scenario, timeline: Timeline, *, report: Callable[[str], None]) -> None:
        self.scenario = scenario
        self.timeline = timeline
        self.rng = random.Random(scenario.seed + 1)
        self.cloud = Cloud(scenario.faults, scenario.cloud, random=self.rng)
        sure = not scenario.flavor.unknown_rate
        self.oracle = Oracle(timeline, faults=scenario.excuses, sure_health=sure)
        self.cloud.watchers.append(self.oracle.on_change)
        self.cloud.watchers.append(self._on_cloud)
        self.cloud.settled.append(self.oracle.losses.not_pending)
        self.store = FaultyStore(self.rng)
        self.store.watchers.append(self.oracle.written)
        self.flavor = _flavor(scenario, self.cloud, self.rng)
        if isinstance(self.flavor, ListingFlavor):
            self.flavor.removals.append(self.oracle.member_removed)
        if isinstance(self.flavor, VotingFlavor):
            self.oracle.voters_of = self.flavor.voting
        self._report = report
        names = [f"n{number}" for number in range(1, len(scenario.node_clocks) + 1)]
        self.quorum = Quorum(timeline, names, self.rng, election_s=scenario.election_s)
        environment = Environment(
            timeline=timeline,
            oracle=self.oracle,
            cloud=self.cloud,
            proxy=proxy.proxy(inspects=scenario.inspects, watches=scenario.watches, identified=scenario.identified),
            flavor=self.flavor,
            poll_s=scenario.poll_s,
            report=self._on_change,
        )
        self.hosts = [self._host(n, environment, c) for n, c in zip(names, scenario.node_clocks, strict=True)]
        self.workload = OperatorWorkload(self.hosts, self.oracle, self.rng)
        self.disturbances = Disturbances(scenario, self.cloud, self.oracle, timeline)
        self.fault_injector = FaultInjector(
            self.hosts, self.quorum, self.store, self.oracle, self.disturbances.kill_some
        )
        if scenario.own_node:
            self.oracle.own_nodes = {h.name: h.logical_id for h in self.hosts if h.logical_id is not None}
            self.cloud.watchers.append(self._on_own_node)

    def _host(self, name: str, environment: Environment, clock: NodeClock) -> Host:
        rng, alone = random.Random(f"{self.scenario.seed} {name}"), len(self.scenario.node_clocks) == 1
        observer = Observer(self.quorum, name, rng, valid_s=self.scenario.valid_s)
        member = Member(self.store, self.quorum, name, self.timeline.world, rng)
        leadership = Static() if alone else observer
        own = LogicalID(self.scenario.groups[0].ids[int(name[1:]) - 1]) if self.scenario.own_node else None
        return Host(
            name,
            self.scenario.seed,
            environment,
            member=member,
            observer=leadership,
            node_clock=clock,
            logical_id=own,
            in_roster=self.scenario.changes_releases,
        )

    def _on_cloud(self, what: str, machine: Machine) -> None:
        """Log what really happens, as opposed to what a replica reports."""
        name = machine.logical_id or machine.tags.get(values.TAG_SLOT, "-")
        self._log(f"** {what:14} {machine.tags.get(values.TAG_GROUP, '-'):8} {machine.id:10} {name}")

    def _on_own_node(self, what: str, machine: Machine) -> None:
        """A node goes with the machine of its member, and comes back with the next one, or with another machine."""
        for host in self.hosts:
            if host.logical_id is None or host.logical_id != machine.logical_id:
                continue
            if what == "ended":
                host.kill()
                self.quorum.lose(host.name)
                self.timeline.world.call_later(OWN_NODE_S, self._regain, host)
            elif what == "created":
                self.timeline.world.call_later(BOOT_S, self._regain, host)

    def _regain(self, host: Host) -> None:
        if not self.timeline.over:
            self.quorum.regain(host.name)
            host.start()

    def _on_change(self, process: Process, event: Event) -> None:
        about = event.instance or event.slot or ""
        self._log(f"{process.name} {event.type:14} {event.group or '-':8} {about:10} {event.message}")
        self.oracle.reported(process.caller(), event)

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
                "epochs": self.oracle.actors.terms,
                "calls": self.oracle.actors.calls,
                "overlaps": self.oracle.actors.overlaps,
                "versions": len(self.oracle.durable.versions),
                "creations": self.oracle.created,
                "healthy members destroyed": self.oracle.losses.requested,
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
        self.timeline.run(lambda: self.oracle.verdict or steps.done())
        if steps.done() and not self.oracle.verdict:
            error = steps.exception()
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if error is not None:
                raise error
        return self.oracle.verdict

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
                self.fault_injector.remember()
                tasks.create_task(self.fault_injector.inject(what, random.Random(number)))

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.timeline.now))

    # -- operations ------------------------------------------------------------------------------------------------

    async def _do(self, what: str, group: GroupPlan, rng: random.Random) -> None:
        name = GroupID(group.name)
        match what:
            case "scale" | "version" | "bad version" | "members" | "resize" | "policy":
                replaces = what == "policy" and not self.scenario.parts
                await self.workload.declare("version" if replaces else what, group, rng)
            case "halt":
                await self.workload.halt(rng.choice([None, name]), rng.uniform(10.0, 120.0))
            case "pause":
                await self.workload.pause(name, rng.uniform(10.0, 120.0))
            case "resume":
                await self.workload.resume(name)
            case "abort" | "rollback":
                await self.workload.end_rollout(name, rollback=what == "rollback")
            case "evict" | "shrink" if alive := self.disturbances.alive(group):
                await self.workload.evict(group, rng.choice(alive), replace=what == "evict" or group.pets)
            case "hand over":
                groups = self.scenario.groups
                await self.workload.hand_over(group, groups[(groups.index(group) + 1) % len(groups)], rng)
            case "destroy" | "destroy volumes":
                await self.workload.destroy(name, volumes=what == "destroy volumes")
            case "free":
                await self.workload.free(name)
            case _:
                await self.disturbances.inject(what, group, rng)

    # -- convergence ----------------------------------------------------------------------------------------------

    async def _converge(self) -> None:
        """Stop all faults, resume what is paused, and require that every group converges."""
        self.disturbances.heal()
        self.store.faults, self.flavor.faults = StoreFaults(), FlavorFaults()
        self.fault_injector.heal()
        self._log("all faults stopped")
        await asyncio.sleep(QUIET_S)
        await self.workload.unhalt(None)  # a halt sent to a stalled replica may have taken effect late
        for group in self.scenario.groups:
            group.bad = False
            group.version += 1
            group.updating |= {
                "OnFailure": "pause"
            }  # a rollback would declare an earlier version, which may never work
            group.updating.pop("ProgressDeadline", None)
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
            whole.check(self.oracle.facts, GroupID(group.name))
            self._check_list(group)
        history = await self.store.history(name=record.NAME, limit=len(self.oracle.durable.versions) + 1)
        self.oracle.durable.check_history({document.revision: document.body for document in history})
        until = self.timeline.now + self.cloud.faults.listing_lag_s + SETTLE_TIMEOUT_S
        while left := await self.unsettled():
            if self.timeline.now > until:
                break
            await asyncio.sleep(POLL_S)
        if left and not self.oracle.verdict:
            raise AssertionError(f"3 exactly one: leftover intents: {left}")

    async def unsettled(self) -> Mapping[GroupID, Mapping[Slot, Intent]]:
        """The intents in the stored ledger, whichever replica leads: a term that has ended does not settle its own."""
        document = await self.store.read(name=ledger.NAME)
        intents = codec.decode(document.body, ledger.LedgerDocument).intents
        names = {group.name for group in self.scenario.groups}
        return {group: left for group, left in intents.items() if group in names and left}

    def _check_list(self, group: GroupPlan) -> None:
        """Require that the member list matches the living instances, all of them promoted."""
        members = self.oracle.facts.of_group(GroupID(group.name))
        alive = {each.id for each in members if each.token}
        if isinstance(self.flavor, ListingFlavor) and alive:
            listed = self.flavor.listed(GroupID(group.name))
            voting = {instance for instance, entry in listed.items() if entry.voting}
            if not alive == voting == listed.keys():
                raise AssertionError(f"the member list of {group.name} has {sorted(listed)}; {sorted(alive)} are alive")


def _flavor(scenario: Scenario, cloud: Cloud, rng: random.Random) -> SimulatedFlavor:
    if not scenario.listing:
        kind: type[SimulatedFlavor] = SimulatedFlavor
    elif scenario.releases:
        kind = ReleasingFlavor
    else:
        kind = VotingFlavor if scenario.voters else ListingFlavor
    return type(kind.__name__, (KnowsParts, kind), {})(cloud, rng) if scenario.parts else kind(cloud, rng)


def _waiting(status: Status | None) -> object:
    if status is None:
        return "no replica leads"
    return [(g.name, g.phase, [w.reason for w in g.waiting]) for g in status.groups if not g.converged]
