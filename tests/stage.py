"""A stage for tests: the production replica with a simulated provider, in virtual time.

@in_virtual_time
async def test_something() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.converged()
"""

import asyncio
import functools
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import msgspec

from infrakit.group.controller import Controller
from infrakit.instances.simulator import Faults, Machine, Simulator
from infrakit.simulation import loop
from infrakit.simulation.parts import FlavorFaults, Plugins, SimulatedFlavor
from infrakit.simulation.single import SingleReplica
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.instance import Instance
from infrakit.spi.manager import Committed, GroupStatus
from infrakit.spi.values import Allocation, GroupID, InstanceID

P = ParamSpec("P")


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test on a virtual clock."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        loop.run(test(*args, **kwargs))

    return run


def cattle(name: str, size: int, **more: Any) -> dict[str, Any]:
    """A declared group of cattle."""
    return _group(name, {"Size": size}, **more)


def pets(name: str, ids: str, **more: Any) -> dict[str, Any]:
    """A declared group of pets; spaces separate the logical IDs: "a b c"."""
    return _group(name, {"LogicalIDs": ids.split()}, **more)


def _group(
    name: str,
    allocation: dict[str, Any],
    *,
    version: int = 0,
    quorum: bool = False,
    volumes: bool = False,
    in_flight: int = 32,
    tags: dict[str, str] | None = None,
    updating: dict[str, Any] | None = None,
    healing: dict[str, Any] | None = None,
    plugin: str = "simulator",
    **machine: Any,
) -> dict[str, Any]:
    flavor = {"Quorum": quorum, "Volumes": volumes, "Version": version}
    quick = {"BootGrace": "20s", "UnhealthyAfter": "10s", "Backoff": "2s", "BackoffMax": "60s"}
    properties = {
        "Allocation": allocation,
        "Instance": {"Plugin": plugin, "Properties": {"version": version, **machine}, "MaxInFlight": in_flight},
        "Flavor": {"Plugin": "simulated", "Properties": flavor},
        "Updating": {"Settle": "5s", **(updating or {})},
        "Healing": quick | (healing or {}),
    }
    return {"kind": "group", "metadata": {"name": name, "tags": tags or {}}, "properties": properties}


class MinimalProvider:
    """The provider without its optional methods: it supports neither `inspect` nor `watch`."""

    def __init__(self, simulator: Simulator) -> None:
        self.capabilities = simulator.capabilities
        self.validate = simulator.validate
        self.provision = simulator.provision
        self.destroy = simulator.destroy
        self.label = simulator.label
        self.describe_instances = simulator.describe_instances


class SlowValidation(SimulatedFlavor):
    """Validation takes a second."""

    async def validate(self, *, properties: Any, allocation: Allocation) -> None:
        await asyncio.sleep(1.0)
        await super().validate(properties=properties, allocation=allocation)


class Stage(SingleReplica):
    """A replica with its simulated provider, as an async context manager; on exit, the replica is stopped."""

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        flavor: FlavorFaults | None = None,
        flavor_class: type[SimulatedFlavor] = SimulatedFlavor,
        provider: Callable[[Simulator], Instance] | None = None,
        simulator: Simulator | None = None,
        seed: int = 7,
        **more: Any,
    ) -> None:
        rng = random.Random(seed)
        self.simulator = simulator or Simulator(faults, random=rng)
        self.flavor = flavor_class(self.simulator, rng)
        self.flavor.faults = flavor or FlavorFaults()
        instance = provider(self.simulator) if provider is not None else self.simulator
        super().__init__(name="stage", plugins=Plugins(instance, self.flavor), random=rng, **more)

    # -- commands --------------------------------------------------------------------------------------------------

    async def commit(self, *groups: dict[str, Any], expected: int | None = None, destroys: int = 100_000) -> Committed:
        """Commit these groups; by default, with consent to whatever that destroys."""
        await self.replica.active.wait()
        return await self.operator.commit(
            text=json.dumps(groups), source="doc", expected=expected, who="ann", why="a test", destroys=destroys
        )

    async def scale(self, group: str, size: int) -> Committed:
        return await self.operator.scale(group=GroupID(group), size=size, who="ann", why="a test")

    def fault(self, **faults: Any) -> None:
        """Change the provider's faults from now on."""
        self.simulator.faults = msgspec.structs.replace(self.simulator.faults, **faults)

    async def until(self, condition: Callable[[], object], within_s: float = 600.0) -> None:
        """Wait until a condition is true, at most `within_s`."""
        clock = asyncio.get_running_loop()
        end = clock.time() + within_s
        while not condition():
            assert clock.time() < end, f"not within {within_s:.0f} s; recent events:\n{self.recent_events()}"
            await asyncio.sleep(0.05)

    async def converged(self, within_s: float = 600.0) -> None:
        """Wait until every group has converged."""
        await self.until(self.is_converged, within_s)

    def is_converged(self) -> bool:
        groups = self.controllers().values()
        return bool(groups) and all(c.plan.converged and c.is_current for c in groups)

    # -- observations ----------------------------------------------------------------------------------------------

    def controllers(self) -> dict[GroupID, Controller]:
        return self.replica.term.controllers if self.replica.term is not None else {}

    def controller(self, group: str) -> Controller:
        return self.controllers()[GroupID(group)]

    async def status(self, group: str) -> GroupStatus:
        return next(g for g in (await self.operator.status()).groups if g.name == group)

    def alive(self, group: str) -> dict[str, Machine]:
        """The live machines of a group, by slot or logical ID."""
        return {
            str(m.logical_id or m.tags.get(values.TAG_SLOT)): m
            for m in self.simulator.live()
            if m.tags.get(values.TAG_GROUP) == group
        }

    def versions(self, group: str) -> set[object]:
        return {msgspec.json.decode(bytes(m.properties))["version"] for m in self.alive(group).values()}

    def messages(self, kind: Kind) -> list[str]:
        return [e.message for e in self.events if e.type is kind]

    def recent_events(self) -> str:
        return "\n".join(
            f"{e.timestamp} {e.type} {e.group} {e.instance or e.slot or ''} {e.message}" for e in self.events[-15:]
        )

    def kill(self, group: str, slot: str) -> InstanceID:
        """Terminate a machine of the group, and return its ID."""
        machine = self.alive(group)[slot]
        self.simulator.kill(machine.id)
        return machine.id
