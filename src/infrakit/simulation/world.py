"""One run: the production replica in a simulated world, through its scenario, then in peace until it has converged."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec

from infrakit.events.journal import Journal
from infrakit.instances.simulator import Faults, Simulator
from infrakit.leadership.static import Static
from infrakit.manager.operator import Operator
from infrakit.manager.replica import Replica
from infrakit.simulation import loop
from infrakit.simulation.laws import InspectingWitness, Laws, Witness
from infrakit.simulation.parts import FaultyStore, FlavorFaults, Plugins, SimulatedFlavor, StoreFaults
from infrakit.simulation.scenario import GroupPlan, Scenario
from infrakit.spi import errors, values
from infrakit.spi.event import Event, Kind
from infrakit.spi.manager import Committed, Manager
from infrakit.spi.values import GroupID, InstanceID

PEACE_S = 3600.0  # simulated time in which a world without faults has to converge
ASK_S = 30.0
WHO = "operator"
WHY = "simulation"


class World:
    """Everything of one run."""

    def __init__(self, scenario: Scenario, *, tell: Callable[[str], None]) -> None:
        self.scenario = scenario
        self.clock = loop.VirtualClock()
        self.chance = random.Random(scenario.seed + 1)
        self.simulator = Simulator(scenario.faults, random=self.chance)
        self.laws = Laws(self.simulator, lying=scenario.lying)
        self.store = FaultyStore(self.chance)
        self.flavor = SimulatedFlavor(self.simulator, self.chance)
        self.journal = Journal(None, clock=self.clock)
        self.acknowledged = 0
        witness = (InspectingWitness if scenario.inspects else Witness)(self.simulator, self.laws)
        self._plugins = Plugins(witness, self.flavor)
        self._tell = tell
        self._running: asyncio.Task[None] | None = None
        self._start()

    # -- a replica, and its crashes --------------------------------------------------------------------------------

    def _start(self) -> None:
        self.replica = Replica(
            name="simulated",
            store=self.store,
            leadership=Static(),
            plugins=self._plugins,
            clock=self.clock,
            random=self.chance,
            emit=self._emit,
            poll_s=self.scenario.poll_s,
        )
        self.operator = Operator(self.replica, stories=self.journal, stop=lambda: None)
        self.laws.stopped = False
        self._running = asyncio.get_running_loop().create_task(self.replica.run())

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        self.laws.stopped = True

    def _emit(self, event: Event) -> None:
        event = self.journal.emit(event)
        now = asyncio.get_running_loop().time()
        self._tell(
            f"{now:9.2f} {event.type:14} {event.group or '-':8} {event.instance or event.slot or '':10} {event.message}"
        )
        if event.type is Kind.COMMITTED:
            self.laws.declared(self.replica.declaration.record)
        if event.type is Kind.CONVERGED and event.group is not None:
            self.laws.converged(event.group)

    # -- the run ---------------------------------------------------------------------------------------------------

    async def run(self) -> str:
        """The first law that was broken, or nothing."""
        story = asyncio.get_running_loop().create_task(self._story())
        broken = asyncio.get_running_loop().create_task(self.laws.broken.wait())
        await asyncio.wait({story, broken}, return_when=asyncio.FIRST_COMPLETED)
        for task in (story, broken):
            task.cancel()
        await asyncio.wait({story, broken})
        await self._stop()
        if not story.cancelled() and (error := story.exception()) is not None:
            raise error
        return self.laws.verdict

    async def _story(self) -> None:
        self.store.faults, self.flavor.faults = self.scenario.store, self.scenario.flavor
        for group in self.scenario.groups:
            await self._commit(group)
        for at, what, number in self.scenario.deeds:
            await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
            group = self.scenario.groups[number % len(self.scenario.groups)]
            self._tell(f"{at:9.2f} DEED {what} {group.name}")
            await self._do(what, group, random.Random(number))
        await asyncio.sleep(max(0.0, self.scenario.minutes * 60.0 - asyncio.get_running_loop().time()))
        await self._peace()

    async def _order(self, order: Callable[[Manager], Awaitable[Committed]]) -> bool:
        """Give an order until it is acknowledged or refused, as an operator would."""
        self.laws.declared(self.replica.declaration.record)
        for _attempt in range(50):
            try:
                await self.replica.active.wait()
                self.acknowledged = max(self.acknowledged, (await order(self.operator)).version)
            except (errors.Unreachable, errors.OutcomeUnknown, errors.NotLeader, errors.Conflict, TimeoutError):
                await asyncio.sleep(1.0)
            except (errors.Refused, errors.NotFound):
                return False
            else:
                self.laws.declared(self.replica.declaration.record)
                return True
        raise AssertionError("an order was never acknowledged")

    # -- deeds -----------------------------------------------------------------------------------------------------

    async def _do(self, what: str, group: GroupPlan, chance: random.Random) -> None:
        name, alive = GroupID(group.name), self._alive(group)
        match what:
            case "scale" | "version" | "bad version" | "members":
                await self._declare(what, group, chance)
            case "halt":
                await self._halt(chance.choice([None, name]), chance.uniform(10.0, 120.0))
            case "pause":
                await self._order(lambda o: o.pause(group=name, who=WHO, why=WHY))
                await asyncio.sleep(chance.uniform(10.0, 120.0))
                await self._order(lambda o: o.resume(group=name, who=WHO, why=WHY))
            case "abort":
                await self._order(lambda o: o.abort(group=name, who=WHO, why=WHY))
            case "rollback":
                await self._order(lambda o: o.rollback(group=name, who=WHO, why=WHY))
            case "evict" | "shrink" if alive:
                await self._evict(group, chance.choice(alive), replace=what == "evict" or group.pets)
            case "outage":
                await self._outage(chance.uniform(5.0, 200.0))
            case "crash":
                await self._stop()
                await asyncio.sleep(chance.choice([0.0, 1.0, 60.0]))
                self._start()
            case "seed" if not group.pets:
                self.simulator.adopt(tags={values.TAG_GROUP: name, values.TAG_HASH: values.BOOTSTRAP})
            case _:
                self._harm(what, alive, chance)

    async def _halt(self, target: GroupID | None, for_s: float) -> None:
        if await self._order(lambda o: o.halt(group=target, who=WHO, why=WHY)):
            self.laws.halted.add(target)
            await asyncio.sleep(for_s)
            self.laws.halted.discard(target)
            await self._order(lambda o: o.unhalt(group=target, who=WHO, why=WHY))

    async def _evict(self, group: GroupPlan, victim: InstanceID, *, replace: bool) -> None:
        ordered = await self._order(lambda o: o.destroy_instance(instance=victim, replace=replace, who=WHO, why=WHY))
        if ordered and not replace:
            group.size = max(0, group.size - 1)

    async def _outage(self, for_s: float) -> None:
        self.simulator.faults = msgspec.structs.replace(self.simulator.faults, down=True)
        await asyncio.sleep(for_s)
        self.simulator.faults = msgspec.structs.replace(self.simulator.faults, down=False)

    def _harm(self, what: str, alive: list[InstanceID], chance: random.Random) -> None:
        count = max(1, len(alive) * 2 // 3) if what.endswith("many") else 1
        for victim in chance.sample(alive, min(count, len(alive))):
            if what.startswith("kill"):
                self.simulator.kill(victim)
            elif what.startswith("sicken"):
                self.simulator.make_sick(victim)

    async def _declare(self, what: str, group: GroupPlan, chance: random.Random) -> None:
        if what == "scale":
            group.size = chance.choice([0, 1, 2, 4, 8, 16])
        elif what == "members" and group.pets:
            if len(group.ids) > 1 and chance.random() < 0.5:
                group.ids = group.ids[1:]
            else:
                group.ids = [*group.ids, f"10.0.1.{chance.randrange(250)}"]
                group.ids = list(dict.fromkeys(group.ids))
        else:
            group.version += 1
            group.bad = what == "bad version"
        await self._commit(group)

    async def _commit(self, group: GroupPlan) -> None:
        await self._order(lambda o: o.commit(text=group.document(), source="doc", who=WHO, why=WHY))

    def _alive(self, group: GroupPlan) -> list[InstanceID]:
        return [m.id for m in self.simulator.live() if m.tags.get(values.TAG_GROUP) == group.name]

    # -- peace -----------------------------------------------------------------------------------------------------

    async def _peace(self) -> None:
        """Without faults, and with an operator who says go, everything becomes as declared."""
        faults = self.scenario.faults
        self.simulator.faults = Faults(lag=faults.lag, death_lag=faults.death_lag, tokens=faults.tokens)
        self.store.faults, self.flavor.faults = StoreFaults(), FlavorFaults()
        self._tell("PEACE")
        for group in self.scenario.groups:
            group.bad = False
            group.version += 1
            await self._commit(group)
        until = asyncio.get_running_loop().time() + PEACE_S
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(ASK_S)
            status = await self.operator.status()
            if len(status.groups) == len(self.scenario.groups) and all(g.converged for g in status.groups):
                break
            for name in [g.name for g in status.groups if not g.converged]:
                await self._go(name)
        else:
            waiting = [(g.name, g.phase, [w.reason for w in g.waiting]) for g in status.groups if not g.converged]
            raise AssertionError(f"not converged after {PEACE_S:.0f} s of peace: {waiting}")
        self._check_end()

    async def _go(self, name: GroupID) -> None:
        await self._order(lambda o: o.resume(group=name, despite_unhealthy=True, who=WHO, why=WHY))

    def _check_end(self) -> None:
        record = self.replica.declaration.record
        for group in self.scenario.groups:
            self.laws.exact(GroupID(group.name), record, "after all faults")
        intents = {n: i for n in record.groups if (i := self.replica.term and self.replica.term.ledger.intents(n))}
        if intents and not self.laws.verdict:
            raise AssertionError(f"3 exactly one: intents are left over: {intents}")
        if self.replica.declaration.version < self.acknowledged:
            raise AssertionError("6 the declaration is never lost: an acknowledged version is not in the store")
