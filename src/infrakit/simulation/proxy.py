"""Wrappers on the side of a replica, which report each of its calls to the oracle when the call begins."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from infrakit.simulation.cloud import Cloud
from infrakit.simulation.oracle import Caller, Oracle
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import values
from infrakit.spi.instance import (
    Capabilities,
    Capable,
    DestroyContext,
    Identified,
    Inspects,
    Instance,
    Keeps,
    Volumes,
    Watches,
)
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec


class Provider(Instance, Capable, Inspects, Watches, Volumes, Keeps, Identified, Protocol):
    """The protocols that the cloud and its proxies implement."""


class ProviderProxy:
    """The provider on the side of the replica."""

    def __init__(self, provider: Provider, cloud: Cloud, oracle: Oracle, caller: Callable[[], Caller]) -> None:
        self._provider = provider
        self._cloud = cloud
        self._oracle = oracle
        self._caller = caller

    async def capabilities(self) -> Capabilities:
        return await self._provider.capabilities()

    async def validate(self, *, properties: msgspec.Raw) -> None:
        await self._provider.validate(properties=properties)

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        self._oracle.creating(self._caller(), spec)
        self._cloud.sent_at[(spec.tags or {}).get(values.TAG_TOKEN, "")] = self._oracle.now
        return await self._provider.provision(spec=spec)

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        caller, machine = self._caller(), self._cloud.real(instance)
        self._oracle.destroying(caller, instance, machine)
        self._cloud.sent_at[machine] = self._oracle.now
        try:
            await self._provider.destroy(instance=instance, context=context)
        finally:
            self._oracle.losses.answered(caller.name, machine, pending=machine in self._cloud.pending)

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        self._oracle.acting(self._caller(), "label", self._cloud.real(instance))
        await self._provider.label(instance=instance, labels=labels)

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        return await self._provider.describe_instances(tags=tags, properties=properties)

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        self._oracle.deleting(self._caller(), attachment)
        await self._provider.delete_attachment(attachment=attachment)

    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        return await self._provider.existing(attachments=attachments)


class InspectingProxy(ProviderProxy):
    """A provider proxy that can also inspect a single instance."""

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        return await self._provider.inspect(instance=instance)


class WatchingProxy(InspectingProxy):
    """A provider proxy that can also watch for changes."""

    async def watch(self) -> AsyncIterator[str]:
        async for hint in self._provider.watch():
            yield hint


class IdentifyingProxy(ProviderProxy):
    """A provider proxy that can also name its account."""

    async def identity(self) -> str:
        return await self._provider.identity()


class IdentifyingInspectingProxy(InspectingProxy, IdentifyingProxy):
    """A provider proxy that can also inspect, and name its account."""


class IdentifyingWatchingProxy(WatchingProxy, IdentifyingProxy):
    """A provider proxy with every optional capability."""


PLAIN = (ProviderProxy, InspectingProxy, WatchingProxy)
IDENTIFYING = (IdentifyingProxy, IdentifyingInspectingProxy, IdentifyingWatchingProxy)


def proxy(*, inspects: bool, watches: bool, identified: bool) -> type[ProviderProxy]:
    """Return the class of a provider with these capabilities; only one that inspects can watch."""
    return (IDENTIFYING if identified else PLAIN)[inspects + watches]


def checked(flavor: SimulatedFlavor, oracle: Oracle, caller: Callable[[], Caller]) -> SimulatedFlavor:
    """Patch the flavor of a replica to report every call that changes something when it begins, and return it."""
    for name, verb in (("drain", "drain"), ("release", "release")):
        method = getattr(flavor, name, None)
        if method is not None:
            vars(flavor)[name] = functools.partial(_reported, method, verb, oracle, caller)
    change = getattr(flavor, "change_membership", None)
    if change is not None:

        async def change_membership(*, instances: Sequence[Description], **arguments: object) -> None:
            oracle.changing(caller(), instances)
            await change(instances=instances, **arguments)

        vars(flavor)["change_membership"] = change_membership
    return flavor


async def _reported(
    method: Callable[..., Coroutine[Any, Any, None]],
    verb: str,
    oracle: Oracle,
    caller: Callable[[], Caller],
    *,
    instance: Description,
    **arguments: object,
) -> None:
    oracle.acting(caller(), verb, instance.id)
    await method(instance=instance, **arguments)
