"""The simulated plugins of a rehearsal: a provider that records what it did, and flavors that know the true health."""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.simulation.parts import HEALTHY, UNHEALTHY, SimulatedFlavor
from infrakit.spec import validate
from infrakit.spi import errors, values
from infrakit.spi.flavor import Voter
from infrakit.spi.group import Strict
from infrakit.spi.instance import Capabilities
from infrakit.spi.values import (
    Allocation,
    Attachment,
    Description,
    GroupID,
    HealthReport,
    InstanceID,
    InstanceSpec,
    LogicalID,
)

PLAIN, LISTING = "simulated", "simulated-with-voters"  # the flavors of a rehearsal
LAG_S = 2.0  # until a new instance is listed, unless the declared plugin promises less
# An ordinary provider: times in seconds. It does not refuse a second instance of a logical ID, so that one is noticed.
ORDINARY = Faults(
    describe=Spread(low=0.1, high=0.5),
    provision=Spread(low=1.0, high=5.0),
    destroy=Spread(low=0.5, high=2.0),
    label=Spread(low=0.1, high=0.5),
    exclusive=False,
)


class ProviderShape(NamedTuple):
    """What a declared instance plugin supports, and so the simulated one in its place."""

    capabilities: Capabilities = Capabilities()
    inspects: bool = False
    identified: bool = False  # it names its account

    @property
    def ordinary(self) -> Faults:
        """How such a provider behaves without injected faults."""
        promised_s = self.capabilities.listing_lag_s
        lag = Spread(high=min(LAG_S, promised_s))
        return msgspec.structs.replace(ORDINARY, lag=lag, lag_max=promised_s, tokens=self.capabilities.tokens)


class RehearsedProvider(Simulator):
    """A simulator that remembers all machines, and which of them the injected faults have terminated."""

    def __init__(self, shape: ProviderShape, *, random: random.Random, prefix: str) -> None:
        super().__init__(shape.ordinary, random=random, prefix=prefix)
        self.shape = shape
        self.every: list[Machine] = []
        self.killed: set[InstanceID] = set()
        self.closed: frozenset[tuple[str, str]] = frozenset()  # members that cannot be created: group and name
        self.changed_at = 0.0  # loop time of the last creation or termination
        self.watchers.append(self._record)

    def _record(self, what: str, machine: Machine) -> None:
        self.changed_at = asyncio.get_running_loop().time()
        if what == "created":
            self.every.append(machine)

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = spec.tags or {}
        name = spec.logical_id or tags.get(values.TAG_SLOT, "")
        if (tags.get(values.TAG_GROUP, ""), name) in self.closed:
            raise errors.Refused("no capacity in this zone", where="simulator")
        return await super().provision(spec=spec)

    async def identity(self) -> str:
        """Return the name of the simulated account."""
        return self._prefix

    def terminate(self, instance: InstanceID) -> None:
        """Terminate a machine as an injected fault."""
        self.killed.add(instance)
        self.kill(instance)


class RehearsedPlugin:
    """The provider as InfraKit sees it: with those optional methods only that the declared plugin has."""

    def __init__(self, provider: RehearsedProvider) -> None:
        self.capabilities = provider.capabilities
        self.validate = provider.validate
        self.provision = provider.provision
        self.destroy = provider.destroy
        self.label = provider.label
        self.describe_instances = provider.describe_instances
        if provider.shape.inspects:
            self.inspect = provider.inspect
        if provider.shape.identified:
            self.identity = provider.identity


class FlavorProperties(Strict, frozen=True, kw_only=True):
    """The properties of the flavors of a rehearsal, which `groups` derives from the declaration."""

    quorum: bool = False
    attachments: dict[LogicalID, tuple[Attachment, ...]] = msgspec.field(default_factory=dict)
    declared: msgspec.Raw = msgspec.field(default_factory=values.absent)  # those of the declared flavor


class RehearsedFlavor(SimulatedFlavor):
    """A flavor with the quorum and the attachments of the declared one, which reports the true health."""

    def __init__(self, providers: Sequence[Simulator], rng: random.Random) -> None:
        super().__init__(providers[0], rng)
        self._providers = providers

    def is_healthy(self, instance: InstanceID) -> bool:
        """Whether the machine is healthy, on whichever provider it is."""
        return any(each.is_healthy(instance) for each in self._providers)

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        del allocation
        validate.properties(properties, FlavorProperties)

    def declared_volumes(
        self, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        del allocation
        return validate.properties(properties, FlavorProperties).attachments

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        del properties
        return HEALTHY if self.is_healthy(instance.id) else UNHEALTHY

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        del properties
        return {each.id: HEALTHY if self.is_healthy(each.id) else UNHEALTHY for each in instances}

    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:
        return validate.properties(properties, FlavorProperties).quorum


class ListingFlavor(RehearsedFlavor):
    """A flavor of a quorum whose cluster has a member list: each declared logical ID is one voter."""

    async def voters(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[Voter]:
        del properties
        return [_voter(each, instances, self) for each in allocation.logical_ids or ()]


def _voter(name: LogicalID, instances: Iterable[Description], flavor: RehearsedFlavor) -> Voter:
    own = tuple(each.id for each in instances if each.logical_id == name)
    return Voter(id=name, name=name, instances=own, healthy=any(flavor.is_healthy(each) for each in own))


class RehearsedPlugins:
    """The plugins of a rehearsal: one provider for each declared instance plugin, and the two flavors."""

    def __init__(self, shapes: Mapping[str, ProviderShape], rng: random.Random) -> None:
        self.providers = {
            name: RehearsedProvider(shape, random=rng, prefix="sim" if len(shapes) == 1 else f"sim-{name}")
            for name, shape in sorted(shapes.items())
        }
        self._instances = {name: RehearsedPlugin(provider) for name, provider in self.providers.items()}
        every = list(self.providers.values())
        self._flavors = {PLAIN: RehearsedFlavor(every, rng), LISTING: ListingFlavor(every, rng)}

    async def instance(self, name: str) -> RehearsedPlugin:
        return self._instances[name]

    async def flavor(self, name: str) -> RehearsedFlavor:
        return self._flavors[name]

    def names(self, section: str) -> list[str]:
        return list(self.providers if section == "Instance" else self._flavors)

    def machines(self) -> Iterable[tuple[RehearsedProvider, Machine]]:
        """Yield every machine that was ever created, with its provider."""
        for provider in self.providers.values():
            for machine in provider.every:
                yield provider, machine

    def inject(self, faults: Mapping[str, Any], closed: Iterable[tuple[str, str]]) -> None:
        """Change the faults of all providers from now on; `closed` members cannot be created."""
        for each in self.providers.values():
            each.faults = msgspec.structs.replace(each.shape.ordinary, **faults)
            each.closed = frozenset(closed)

    @property
    def changed_at(self) -> float:
        """The loop time of the last creation or termination."""
        return max((each.changed_at for each in self.providers.values()), default=0.0)


def group_of(machine: Machine) -> GroupID:
    """Return the group of a machine."""
    return GroupID(machine.tags.get(values.TAG_GROUP, ""))


def member_of(machine: Machine) -> str:
    """Return the name of a machine in its group: its logical ID, or its ordinal."""
    return str(machine.logical_id or machine.tags.get(values.TAG_SLOT, machine.id))
