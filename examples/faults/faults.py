"""A declaration under faults, in virtual time: `python faults.py FILE [SEED]`. The same seed repeats the same run.

The simulator creates every instance of FILE, whichever plugin it names, and decides whether it is healthy.
"""

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from infrakit.flavors.vanilla import Vanilla
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.leadership.static import Static
from infrakit.manager.api.manager import Operator
from infrakit.manager.lead.replica import Replica
from infrakit.simulation import loop
from infrakit.spi.event import Event
from infrakit.spi.values import Description, Health, HealthReport, InstanceID
from infrakit.stores.memory import MemoryStore

MINUTES = 10
FAULTS = Faults(
    provision=Spread(low=1.0, high=5.0),  # duration of a creation
    lost_rate=0.2,  # executed, but the response is lost
    unreachable_rate=0.1,
    per_second=5.0,  # more calls are throttled
    lag=Spread(high=10.0),  # until a new instance is listed
    boot=Spread(low=2.0, high=10.0),  # until it is healthy
    lifetime=600.0,  # mean, in seconds
    tokens=False,  # a retry would create a second instance
)


class Truthful(Vanilla):
    """A flavor with the properties of `vanilla` that reports the true health of each simulated instance."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self._simulator = simulator

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        del properties
        is_healthy = self._simulator.is_healthy
        return {
            each.id: HealthReport(health=Health.HEALTHY if is_healthy(each.id) else Health.UNHEALTHY)
            for each in instances
        }


class Plugins:
    """Resolves every plugin name to the simulator or to the flavor above."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._flavor = Truthful(simulator)

    async def instance(self, _name: str) -> Simulator:
        return self._simulator

    async def flavor(self, _name: str) -> Truthful:
        return self._flavor

    def names(self, _section: str) -> list[str]:
        return []


class NoHistory:
    """An empty journal: events are printed, not stored."""

    def story(self, **_about: object) -> list[Event]:
        return []


def show(event: Event) -> None:
    now = asyncio.get_running_loop().time()
    about = " ".join(each for each in (event.group, event.slot, event.instance) if each)
    print(f"{now:7.1f} s  {event.type:<14} {about}: {event.message}")


async def run(document: str, seed: int) -> None:
    rng = random.Random(seed)
    simulator = Simulator(FAULTS, random=rng)
    replica = Replica(
        name="simulated",
        store=MemoryStore(),
        leadership=Static(),
        plugins=Plugins(simulator),
        clock=loop.VirtualClock(),
        random=rng,
        emit=show,
    )
    operator = Operator(replica, history=NoHistory(), stop=lambda: None)
    running = asyncio.create_task(replica.run())
    await replica.active.wait()
    await operator.commit(text=document, source="document", who="you", why="to see")
    await asyncio.sleep(MINUTES * 60)
    status = await operator.status()
    running.cancel()
    await asyncio.wait({running})
    for group in status.groups:
        print(f"{group.name}: {group.live} of {group.want} live, {group.healthy} healthy, {group.phase}")
    print(f"{simulator.calls['provision']} creations requested, {len(simulator.live())} instances actually alive")


loop.run(run(Path(sys.argv[1]).read_text(), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
