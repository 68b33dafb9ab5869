"""Simulated dependencies other than the provider: a store with faults, and a flavor that knows the true health."""

import asyncio
import copy
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from infrakit.instances.simulator import Simulator
from infrakit.spec import validate
from infrakit.spi import errors
from infrakit.spi.flavor import MemberParts
from infrakit.spi.group import Strict
from infrakit.spi.instance import Instance
from infrakit.spi.store import Document
from infrakit.spi.values import (
    Allocation,
    Attachment,
    Description,
    Health,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
)
from infrakit.stores.memory import MemoryStore

HEALTHY = HealthReport(health=Health.HEALTHY)
UNHEALTHY = HealthReport(health=Health.UNHEALTHY, note="reported unhealthy by the simulator")
UNKNOWN = HealthReport(health=Health.UNKNOWN, note="no response")


class StoreFaults(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of the store. Rates are probabilities from 0 to 1."""

    unreachable_rate: float = 0.0
    lost_rate: float = 0.0  # the write succeeds, and the response is lost
    latency_s: float = 0.0


class FaultyStore(MemoryStore):
    """An in-memory store behind an unreliable network."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.faults = StoreFaults()
        self.watchers: list[Callable[[Document], None]] = []  # called with every revision as soon as it is durable
        self.shows_old = False  # reads show an earlier state, and writes fail
        self._old: dict[str, int] = {}  # the revisions of that state
        self._rng = rng

    async def read(self, *, name: str) -> Document:
        await self._travel()
        if self.shows_old:
            revisions = self._revisions.get(name, [])[: self._old.get(name, 0)]
            return revisions[-1] if revisions else Document(name=name, revision=0, body=b"")
        return await super().read(name=name)

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        await self._travel()
        if self.shows_old:
            raise errors.Unreachable("the store is read-only", where="store")
        revision = await super().replace(name=name, body=body, expected=expected)
        for watcher in self.watchers:
            watcher(Document(name=name, revision=revision, body=body))
        if self._rng.random() < self.faults.lost_rate:
            raise errors.OutcomeUnknown("the connection broke", where="store")
        return revision

    async def _travel(self) -> None:
        if self.faults.latency_s:
            await asyncio.sleep(self.faults.latency_s * self._rng.random())
        if self._rng.random() < self.faults.unreachable_rate:
            raise errors.Unreachable("connection refused", where="store")

    # -- faults ----------------------------------------------------------------------------------------------------

    def mark(self) -> dict[str, int]:
        """Return the present state, as the newest revision of each document."""
        return {name: revisions[-1].revision for name, revisions in self._revisions.items() if revisions}

    def documents(self, name: str) -> Sequence[Document]:
        """Return every revision of a document, the oldest first."""
        return tuple(self._revisions.get(name, ()))

    def show(self, state: Mapping[str, int]) -> None:
        """Show an earlier state until `shows_old` is reset."""
        self._old, self.shows_old = dict(state), True

    def fork(self) -> "FaultyStore":
        """Return a copy that has the same history so far, and takes writes of its own."""
        copy = FaultyStore(self._rng)
        copy.faults, copy.watchers = self.faults, self.watchers
        copy._revisions = {name: list(revisions) for name, revisions in self._revisions.items()}
        return copy

    def restore(self, state: Mapping[str, int]) -> None:
        """Lose everything that was written after an earlier state."""
        for name, revisions in self._revisions.items():
            del revisions[state.get(name, 0) :]
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class FlavorProperties(Strict, frozen=True, kw_only=True):
    """The flavor properties that a simulated group declares."""

    quorum: bool = False
    volumes: bool = False  # every logical ID has a volume
    named: Mapping[str, str] = msgspec.field(default_factory=dict)  # those that are not named after their logical ID
    version: int = 0
    policy: int = 0  # no member is made from it


class FlavorFaults(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of the flavor. Rates are probabilities from 0 to 1."""

    unknown_rate: float = 0.0
    prepare_fail_rate: float = 0.0
    prepare_refuses: bool = False  # what it cannot prepare, it refuses
    attachments_fail_rate: float = 0.0
    prepare_s: float = 0.0
    drain_s: float = 0.0
    drain_hang_rate: float = 0.0
    release_fail_rate: float = 0.0
    hides_voters: bool = False  # the list of voters is never known
    fact_rate: float = 0.0  # of member lists with a fact that requires no change


class SimulatedFlavor:
    """A flavor that reports the true health of each simulated instance, or UNKNOWN at the rate of its faults."""

    def __init__(self, simulator: Simulator, rng: random.Random) -> None:
        self.faults = FlavorFaults()
        self._simulator = simulator
        self._rng = rng
        self._delays = copy.copy(rng)  # of answers about attachments

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        del allocation
        validate.properties(properties, FlavorProperties)

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        del index
        if self.faults.prepare_s:
            await asyncio.sleep(self._rng.random() * self.faults.prepare_s)
        if self._rng.random() < self.faults.prepare_fail_rate:
            kind = errors.Refused if self.faults.prepare_refuses else errors.PluginError
            raise kind("no join token")
        if spec.logical_id is None:
            return spec
        held = self.declared_volumes(properties, allocation)
        return msgspec.structs.replace(spec, attachments=held.get(spec.logical_id, ()))

    async def attachments(
        self, *, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        await asyncio.sleep(self._delays.random() * self.faults.prepare_s)
        if self._delays.random() < self.faults.attachments_fail_rate:
            raise errors.Unreachable("connection refused", where="flavor")
        return self.declared_volumes(properties, allocation)

    def declared_volumes(
        self, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        """Return the volumes of each logical ID, without a delay."""
        found = validate.properties(properties, FlavorProperties)
        ids = (allocation.logical_ids or ()) if found.volumes else ()
        return {i: (Attachment(id=found.named.get(i, f"vol-{i}"), type="volume"),) for i in ids}

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        del properties
        if self._rng.random() < self.faults.unknown_rate:
            return UNKNOWN
        return HEALTHY if self._simulator.is_healthy(instance.id) else UNHEALTHY

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        return {i.id: await self.healthy(properties=properties, instance=i) for i in instances}

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        del properties, instance
        if self._rng.random() < self.faults.drain_hang_rate:
            await asyncio.get_running_loop().create_future()
        if self.faults.drain_s:
            await asyncio.sleep(self._rng.random() * self.faults.drain_s)

    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:
        return validate.properties(properties, FlavorProperties).quorum


class KnowsParts:
    """What a flavor with `spi.flavor.MadeFrom` has in addition: it knows what its members are made from."""

    def made_from(self, *, properties: msgspec.Raw) -> MemberParts:
        found = validate.properties(properties, FlavorProperties)
        return MemberParts(common={"Quorum": found.quorum, "Volumes": found.volumes, "Version": found.version})


class Plugins:
    """Resolves every plugin name to the instance plugin or the flavor of the simulated world."""

    def __init__(self, instance: Instance, flavor: SimulatedFlavor) -> None:
        self._instance = instance
        self._flavor = flavor

    async def instance(self, name: str) -> Instance:
        del name
        return self._instance

    async def flavor(self, name: str) -> SimulatedFlavor:
        del name
        return self._flavor

    def names(self, section: str) -> list[str]:
        del section
        return ["simulator", "simulated"]


def logical_ids(count: int, first: int = 1) -> list[LogicalID]:
    """Return logical IDs in the form of IP addresses: `10.0.0.1`, `10.0.0.2` and so on."""
    return [LogicalID(f"10.0.0.{n}") for n in range(first, first + count)]
