"""Wrappers that report provider calls to the laws, on the side of the replica and on the side of the world."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from infrakit.instances.simulator import Faults, Machine, Simulator
from infrakit.simulation.laws import Caller, Laws
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi.instance import Capabilities, Capable, DestroyContext, Inspects, Instance, Watches
from infrakit.spi.values import Description, InstanceID, InstanceSpec


class Provider(Instance, Capable, Inspects, Watches, Protocol):
    """The protocols that the simulator and its proxies implement."""


class ProviderProxy:
    """The provider on the side of the replica: reports every call and its caller to the laws when the call starts."""

    def __init__(self, provider: Provider, laws: Laws, caller: Callable[[], Caller]) -> None:
        self._provider = provider
        self._laws = laws
        self._caller = caller

    async def capabilities(self) -> Capabilities:
        return await self._provider.capabilities()

    async def validate(self, *, properties: msgspec.Raw) -> None:
        await self._provider.validate(properties=properties)

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        self._laws.creating(self._caller(), spec)
        return await self._provider.provision(spec=spec)

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        caller = self._caller()
        self._laws.destroying(caller, instance)
        try:
            await self._provider.destroy(instance=instance, context=context)
        finally:
            self._laws.answered(caller, instance)

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        self._laws.acting(self._caller(), "label", self._laws.group_of(instance))
        await self._provider.label(instance=instance, labels=labels)

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        return await self._provider.describe_instances(tags=tags, properties=properties)


class InspectingProxy(ProviderProxy):
    """A provider proxy that can also inspect a single instance."""

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        return await self._provider.inspect(instance=instance)


class WatchingProxy(InspectingProxy):
    """A provider proxy that can also watch for changes."""

    async def watch(self) -> AsyncIterator[str]:
        async for hint in self._provider.watch():
            yield hint


def checked(flavor: SimulatedFlavor, laws: Laws, caller: Callable[[], Caller]) -> SimulatedFlavor:
    """Patch the flavor of a replica to report every membership change to the laws when it starts, and return it."""
    change = getattr(flavor, "change_membership", None)
    if change is not None:

        async def change_membership(*, instances: Sequence[Description], **arguments: object) -> None:
            laws.changing(caller(), instances)
            await change(instances=instances, **arguments)

        vars(flavor)["change_membership"] = change_membership
    return flavor


class ReportingSimulator(Simulator):
    """The provider on the side of the world: reports to the laws when a destruction is over.

    It reports even if the response to the caller is lost. It also implements `Watches`.
    """

    def __init__(self, faults: Faults, *, random: random.Random) -> None:
        super().__init__(faults, random=random)
        self.laws: Laws | None = None
        self._on_change = asyncio.Event()
        self.watchers.append(self._hint)

    def _hint(self, _what: str, _machine: Machine) -> None:
        happened, self._on_change = self._on_change, asyncio.Event()
        happened.set()

    async def watch(self) -> AsyncIterator[str]:
        while True:
            await self._on_change.wait()
            yield "something has changed"

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        try:
            await super().destroy(instance=instance, context=context)
        finally:
            if self.laws is not None:
                self.laws.destroyed(instance)
