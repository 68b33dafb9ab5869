"""The laws, held against what really happens: at every call that begins, every creation and every death.

What a controller knows is always a little old. A law therefore asks for what it could know: a decision is not held
against a death or a change of the declaration that came a moment before.
"""

import asyncio
import collections
from collections.abc import Mapping, Sequence

import msgspec

from infrakit.instances.simulator import Machine, Simulator
from infrakit.manager.record import Record
from infrakit.spi import values
from infrakit.spi.group import amount
from infrakit.spi.instance import Capabilities, DestroyContext
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec

MEMORY_S = 200.0  # a call may take 120 s and was planned a cycle before
MOMENT_S = 60.0  # what a decision may not know yet


class Laws:
    """What is known of one run, and the checks."""

    def __init__(self, simulator: Simulator, *, lying: bool) -> None:
        self.simulator = simulator
        self.lying = lying  # the provider leaves out instances silently, and a controller has lost its memory
        self.halted: set[GroupID | None] = set()
        self.stopped = False  # no replica runs
        self.steps = 0
        self.broken = asyncio.Event()
        self.verdict = ""
        self._records: collections.deque[tuple[float, Record]] = collections.deque()
        self._changed_at = 0.0
        self._disturbed_at: dict[GroupID, float] = {}
        self._taken: dict[GroupID, dict[str, Machine]] = {}  # quorum members that our calls have ended, or are about to
        self._alive: dict[GroupID, dict[InstanceID, Machine]] = {}
        self._made: dict[str, int] = {}
        simulator.watchers.append(self._happened)

    # -- what the world tells --------------------------------------------------------------------------------------

    def declared(self, record: Record) -> None:
        """The declaration changes, or may just have changed."""
        now = asyncio.get_running_loop().time()
        self._records.append((now, record))
        while self._records and len(self._records) > 1 and self._records[1][0] < now - MEMORY_S:
            self._records.popleft()
        self._changed_at = now

    def _happened(self, what: str, machine: Machine) -> None:
        self.steps += 1
        group = GroupID(machine.tags.get(values.TAG_GROUP, ""))
        alive = self._alive.setdefault(group, {})
        if what == "ended":
            alive.pop(machine.id, None)
            self._disturbed_at[group] = machine.dead_at
            return
        if not machine.token:
            self._disturbed_at[group] = asyncio.get_running_loop().time()  # somebody else made it
        self._taken.get(group, {}).pop(str(machine.logical_id), None)
        if machine.token:
            self._made[machine.token] = self._made.get(machine.token, 0) + 1
            self._must(self._made[machine.token] == 1, f"3 exactly one: two instances for the token {machine.token}")
        for other in alive.values():
            same = machine.logical_id is not None and other.logical_id == machine.logical_id
            self._must(not same, f"2 one bearer: {machine.id} and {other.id} bear {machine.logical_id}")
        alive[machine.id] = machine
        if machine.token and not self.lying:
            allowed = max((_ceiling(r, group) for _, r in self._records), default=0)
            ours = sum(bool(m.token) for m in alive.values())  # what others made may not be listed yet
            self._must(
                ours <= allowed, f"3 exactly one: {len(alive)} instances of {group} live, {allowed} are declared"
            )

    # -- calls that begin ------------------------------------------------------------------------------------------

    def creating(self, spec: InstanceSpec) -> None:
        self.steps += 1
        tags = spec.tags or {}
        group = GroupID(tags.get(values.TAG_GROUP, ""))
        self._may_act(group, "create")
        if spec.logical_id is None or self.lying:
            return
        for other in self._alive.get(group, {}).values():
            second = other.logical_id == spec.logical_id and other.token != tags.get(values.TAG_TOKEN)
            self._must(not second, f"2 one bearer: asked for a second {spec.logical_id} while {other.id} lives")

    def destroying(self, instance: InstanceID) -> None:
        self.steps += 1
        machine = self.simulator.machines.get(instance)
        if machine is None:
            return
        group = GroupID(machine.tags.get(values.TAG_GROUP, ""))
        self._may_act(group, "destroy")
        record = self._records[-1][1]
        if not machine.lives or group not in record.groups or record.orders_of(group).destroying is not None:
            return
        if instance in record.orders_of(group).evictions:
            return
        self._not_the_healthy(machine, group, record)
        self._not_the_majority(machine, group, record)

    def _may_act(self, group: GroupID, what: str) -> None:
        self._must(not self.stopped, f"1 one actor: {what} by a replica that has stopped")
        halted = None in self.halted or group in self.halted
        self._must(not halted, f"9 stop means stop: {what} in {group}, which is halted")

    def _not_the_healthy(self, machine: Machine, group: GroupID, record: Record) -> None:
        now = asyncio.get_running_loop().time()
        declared, alive = record.groups[group], self._alive.get(group, {})
        current = machine.tags.get(values.TAG_HASH) in {declared.hash, values.BOOTSTRAP}
        calm = now - self._changed_at > MOMENT_S and now - self._disturbed_at.get(group, -MEMORY_S) > MOMENT_S
        if not (current and calm and machine.is_healthy(now) and machine.is_healthy(now - MOMENT_S)):
            return
        ids = declared.properties.allocation.logical_ids
        if ids is not None:
            needed = machine.logical_id in ids
        else:
            needed = len(alive) <= (declared.properties.allocation.size or 0)
        self._must(not needed, f"5 never worse: {machine.id} of {group} is healthy, current, declared, and destroyed")

    def _not_the_majority(self, machine: Machine, group: GroupID, record: Record) -> None:
        declared = record.groups[group]
        ids = declared.properties.allocation.logical_ids
        quorum = b'"Quorum":true' in bytes(declared.properties.flavor.properties).replace(b" ", b"")
        if ids is None or not quorum or machine.logical_id not in ids:
            return
        taken = self._taken.setdefault(group, {})
        taken[str(machine.logical_id)] = machine
        gone = [i for i in map(str, ids) if i in taken]
        can_lose = max(1, (len(ids) - 1) // 2)
        self._must(len(gone) <= can_lose, f"5 never worse: {gone} of the quorum {group} are gone by our hand")

    def destroyed(self, instance: InstanceID) -> None:
        """The call is over, whatever it says; a machine that still lives was not taken."""
        machine = self.simulator.machines.get(instance)
        if machine is not None and machine.lives:
            group = GroupID(machine.tags.get(values.TAG_GROUP, ""))
            self._taken.get(group, {}).pop(str(machine.logical_id), None)

    # -- claims and ends -------------------------------------------------------------------------------------------

    def converged(self, group: GroupID) -> None:
        """A controller says that its group has converged."""
        self.simulator.live()  # lets those die whose time has come
        now = asyncio.get_running_loop().time()
        fresh = now - self._disturbed_at.get(group, -MEMORY_S) > MOMENT_S and now - self._changed_at > 0.0
        if fresh and not self.lying:
            self.exact(group, self._records[-1][1], "7 converged means converged")

    def exact(self, group: GroupID, record: Record, law: str) -> None:
        """What lives is exactly what is declared."""
        declared = record.groups[group]
        alive = [m for m in self.simulator.live() if m.tags.get(values.TAG_GROUP) == group]
        allocation = declared.properties.allocation
        if allocation.logical_ids is not None:
            have = sorted(str(m.logical_id) for m in alive)
            self._must(have == sorted(map(str, allocation.logical_ids)), f"{law}: {group} has {have}")
        else:
            self._must(len(alive) == allocation.size, f"{law}: {group} has {len(alive)}, declared {allocation.size}")
        for machine in alive:
            version = machine.tags.get(values.TAG_HASH)
            self._must(version == declared.hash, f"{law}: {machine.id} of {group} is of version {version}")

    def _must(self, holds: bool, law: str) -> None:
        if not holds and not self.broken.is_set():
            self.verdict = f"{law} (at {asyncio.get_running_loop().time():.1f} s)"
            self.broken.set()  # raising here would only look like one more fault of the provider


def _ceiling(record: Record, group: GroupID) -> int:
    declared = record.groups.get(group)
    if declared is None:
        return 0
    allocation = declared.properties.allocation
    if allocation.logical_ids is not None:
        return len(allocation.logical_ids) + 2  # undeclared ones may still be on their way out
    size = allocation.size or 0
    return size + amount(declared.properties.updating.max_surge, size)


class Witness:
    """The provider as controllers see it, which tells the laws of every call that begins."""

    def __init__(self, simulator: Simulator, laws: Laws) -> None:
        self._simulator = simulator
        self._laws = laws

    async def capabilities(self) -> Capabilities:
        return await self._simulator.capabilities()

    async def validate(self, *, properties: msgspec.Raw) -> None:
        await self._simulator.validate(properties=properties)

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        self._laws.creating(spec)
        return await self._simulator.provision(spec=spec)

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        self._laws.destroying(instance)
        try:
            await self._simulator.destroy(instance=instance, context=context)
        finally:
            self._laws.destroyed(instance)

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        await self._simulator.label(instance=instance, labels=labels)

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        return await self._simulator.describe_instances(tags=tags, properties=properties)


class InspectingWitness(Witness):
    """The same for a provider that can be asked about one instance."""

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        return await self._simulator.inspect(instance=instance)
