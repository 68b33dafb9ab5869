"""A production replica with a file store and a journal, on the simulator: `infrakit up` without its socket."""

import asyncio
import contextlib
import json
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from infrakit.events.journal import Journal
from infrakit.flavors.vanilla import Vanilla
from infrakit.instances.simulator import Faults, Simulator
from infrakit.leadership.static import Static
from infrakit.manager.api.manager import Operator
from infrakit.manager.lead.replica import Replica
from infrakit.spi.clock import SystemClock
from infrakit.stores.file import FileStore

POLL_S = 1.0


class Plugins:
    """Resolves every plugin name to the simulator or to the flavor `vanilla`."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._vanilla = Vanilla()

    async def instance(self, name: str) -> Simulator:
        del name
        return self._simulator

    async def flavor(self, name: str) -> Vanilla:
        del name
        return self._vanilla

    def names(self, section: str) -> list[str]:
        del section
        return ["simulator", "vanilla"]


class Cluster:
    """A replica, and the operator interface to it."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        self.simulator = Simulator(faults, random=random.Random(1))
        self.journal = Journal(directory / "events", clock=SystemClock())
        self.replica = Replica(
            name="benchmark",
            store=FileStore(directory / "store"),
            leadership=Static(),
            plugins=Plugins(self.simulator),
            clock=SystemClock(),
            random=random.Random(2),
            emit=self.journal.emit,
            poll_s=POLL_S,
        )
        self.operator = Operator(self.replica, history=self.journal, stop=lambda: None)

    async def declare(self, size: int, *, in_flight: int = 1000) -> None:
        """Commit one group of the given size."""
        properties = {
            "Allocation": {"Size": size},
            "Instance": {"Plugin": "simulator", "Properties": {"note": "v1"}, "MaxInFlight": in_flight},
            "Flavor": {"Plugin": "vanilla", "Properties": {"Init": ["true"]}},
        }
        text = json.dumps({"kind": "group", "metadata": {"name": "workers"}, "properties": properties})
        await self.operator.commit(text=text, source="benchmark", who="benchmark", why="figures")

    async def converged(self) -> None:
        """Wait until the controller reports that its group has converged."""
        while True:
            controller = self.replica.term and self.replica.term.controllers.get("workers")  # type: ignore[call-overload]
            if controller and controller.is_current and controller.plan.converged:
                return
            await asyncio.sleep(0.01)

    async def diverged(self) -> None:
        """Wait until the controller has seen that its group is not as declared."""
        while True:
            controller = self.replica.term and self.replica.term.controllers.get("workers")  # type: ignore[call-overload]
            if controller and not controller.plan.converged:
                return
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def cluster(faults: Faults | None = None) -> AsyncIterator[Cluster]:
    """Run a cluster in a temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        running_cluster = Cluster(Path(directory), faults or Faults())
        async with running_cluster.journal:
            running = asyncio.get_running_loop().create_task(running_cluster.replica.run())
            await running_cluster.replica.active.wait()
            try:
                yield running_cluster
            finally:
                running.cancel()
                await asyncio.wait({running})
