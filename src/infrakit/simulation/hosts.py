"""One node of the quorum, and the replica on it: a production `Replica` in a process of its own, again and again."""

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

from infrakit.events.journal import Journal
from infrakit.leadership.static import Static
from infrakit.manager.api.manager import Operator
from infrakit.manager.lead.replica import Replica
from infrakit.simulation.bridge import Line, remote
from infrakit.simulation.laws import Caller, Laws
from infrakit.simulation.loops import Timeline, WallClock
from infrakit.simulation.parts import Plugins, SimulatedFlavor
from infrakit.simulation.quorum import Member, Observer
from infrakit.simulation.scenario import Machine
from infrakit.simulation.witness import Provider, Witness, witnessed
from infrakit.spi.event import Event
from infrakit.spi.leadership import Leadership

DRIFT_MAX = 1.05  # what is promised: a duration that two clocks measure differs by no more


class Surroundings(NamedTuple):
    """What every replica has to do with."""

    timeline: Timeline
    laws: Laws
    provider: Provider
    witness: type[Witness]
    flavor: SimulatedFlavor
    poll_s: float
    tell: Callable[["Process", Event], None]


class Process:
    """One incarnation of a replica, and its lines to the world."""

    def __init__(
        self,
        host: "Host",
        number: int,
        around: Surroundings,
        *,
        member: Member,
        leadership: Leadership,
        machine: Machine,
    ) -> None:
        timeline, rng = around.timeline, random.Random(f"{host.seed} {host.name} {number}")
        self.name = host.name
        self.number = number
        self.stopping = False
        self.ended = asyncio.Event()
        self.loop = timeline.loop(rate=machine.rate, offset_s=machine.offset_s)
        self.to_store = Line(timeline, self.loop, timeline.world, rng)
        self.to_provider = Line(timeline, self.loop, timeline.world, rng)
        self.to_operator = Line(timeline, timeline.world, self.loop, rng)
        clock = WallClock(timeline, skew_s=machine.skew_s)
        journal = Journal(None, clock=clock)
        witness = around.witness(remote(around.provider, self.to_provider), around.laws, self.caller)
        flavor = witnessed(remote(around.flavor, self.to_provider), around.laws, self.caller)
        self.replica = Replica(
            name=host.name,
            store=remote(member, self.to_store),
            leadership=leadership,
            plugins=Plugins(witness, flavor),
            clock=clock,
            random=rng,
            emit=lambda event: None if timeline.over else around.tell(self, journal.emit(event)),
            poll_s=around.poll_s,
        )
        operator = Operator(self.replica, stories=journal, stop=lambda: None)
        self.operator = remote(operator, self.to_operator)
        self._timeline = timeline
        self.task = self.loop.create_task(self.replica.run())
        self.task.add_done_callback(self._ended)

    @property
    def lines(self) -> tuple[Line, ...]:
        return self.to_store, self.to_provider, self.to_operator

    @property
    def epoch(self) -> int:
        """That it acts under; 0 for none."""
        term = self.replica.term
        return term.ledger.epoch if term is not None else 0

    def caller(self) -> Caller:
        """By what right it acts now."""
        seen = self.replica.observation
        until = 0.0
        if seen is not None and seen.leader:
            until = self.loop.true(seen.begun_at) + seen.valid_s * DRIFT_MAX
        return Caller(name=f"{self.name}.{self.number}", epoch=self.epoch, leads_until=until)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.ended.set()
        if not task.cancelled() and (error := task.exception()) is not None and self._timeline.crash is None:
            self._timeline.crash = error


class Host:
    """A node: its replica starts, stalls, dies and comes back."""

    def __init__(
        self,
        name: str,
        seed: int,
        around: Surroundings,
        *,
        member: Member,
        observer: Observer | Static,
        machine: Machine,
    ) -> None:
        self.name = name
        self.seed = seed
        self.observer = observer
        self._around = around
        self._member = member
        self._machine = machine
        self._starts = 0
        self.process: Process | None = None
        self.start()

    def start(self) -> None:
        """Run a replica, unless one runs."""
        if self.process is None:
            self._starts += 1
            self.process = Process(
                self,
                self._starts,
                self._around,
                member=self._member,
                leadership=self.observer,
                machine=self._machine,
            )

    def kill(self) -> None:
        """What it has sent is on its way; nothing else of it is left."""
        if self.process is not None:
            self.process.loop.kill()
            self.process.ended.set()
            self.process = None

    async def stop(self) -> None:
        """End it cleanly, as a signal would. A stalled one ends once it goes on."""
        process = self.process
        if process is None:
            return
        process.stopping = True
        process.loop.receive(process.task.cancel)
        await process.ended.wait()
        if process is self.process:
            self.kill()

    def mend(self) -> None:
        """Nothing keeps it from anything any more."""
        if isinstance(self.observer, Observer):
            self.observer.blind = False
        if self.process is not None and self.process.stopping:
            self.kill()
        self.start()
        process = self.process
        if process is not None:
            process.loop.resume()
            for line in process.lines:
                line.slow_s = 0.0
                line.mend()
