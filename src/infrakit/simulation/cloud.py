"""The provider of a simulated world: the simulator, with what real providers do beyond its faults.

Calls that fail at once and take effect later, listings that go back, repeat entries or stay empty, two IDs for one
machine, terminated entries, machines that run again, IDs that are used again, tags that others lose or edit, machines
that take long to stop. All of it is reported to watchers as what really happens.
"""

import asyncio
import collections
import contextlib
import heapq
import math
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from infrakit.instances.simulator import Faults, Machine, Simulator
from infrakit.spi import errors, values
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec, LogicalID, State

T = TypeVar("T")

EFFECT_S_MAX = 115.0  # after a call has left its caller; the promised maximum is 120 s, by any clock
ENDED_KEPT = 200
FOREIGN = "other"  # the cluster that the tokens of a second installation name


class CloudFaults(msgspec.Struct, frozen=True, kw_only=True):
    """Faults beyond those of the simulator. Rates are probabilities from 0 to 1."""

    late_rate: float = 0.0  # of creations and destructions that fail at once, and take effect later
    back_rate: float = 0.0  # of listings that show an earlier state of what has changed within the lag
    repeat_rate: float = 0.0  # of listings that contain an entry twice
    empty_id_rate: float = 0.0  # of listings with an entry without an ID
    stops_s: float = 0.0  # the longest time that a destroyed machine shuts down, and holds its identity
    ended_shown_s: float = 0.0  # how long a terminated machine is listed as terminated
    ignores_labels: bool = False
    reuses_ids: bool = False  # the ID of a machine that is not listed any more is given to a new one
    inspect_error_rate: float = 0.0


class Cloud(Simulator):
    """The provider on the side of the world. It also implements `Watches`."""

    def __init__(self, faults: Faults, more: CloudFaults, *, random: random.Random) -> None:
        super().__init__(faults, random=random)
        self.more = more
        self.empty_until = 0.0  # true time until which listings are empty
        self.sick_until = 0.0  # true time until which no new machine becomes healthy
        self.refuses_until = 0.0  # true time until which no creation is permitted
        self.loses_until = 0.0  # true time until which creations are not answered, and create nothing
        self.watch_stops = False
        self.sent_at: dict[str, float] = {}  # when a call left its caller, by token or ID
        self.pending: collections.Counter[InstanceID] = collections.Counter()  # destructions that take effect later
        self.settled: list[Callable[[InstanceID], None]] = []  # called when a late destruction has had its effect
        self._aliases: dict[InstanceID, InstanceID] = {}  # a second ID -> the machine
        self._ended: collections.deque[Machine] = collections.deque(maxlen=ENDED_KEPT)
        self._edited: list[tuple[Machine, str, str, str | None]] = []  # a tag, its value before, and after
        self._stopping: dict[InstanceID, float] = {}
        self._finished: set[InstanceID] = set()
        self._names: dict[InstanceID, LogicalID | None] = {}  # listed instead of the logical ID
        self.renamed: set[InstanceID] = set()  # what has been listed with the logical ID of another one
        self._on_event = asyncio.Event()
        self.watchers.append(self._hint)

    # -- calls -----------------------------------------------------------------------------------------------------

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        token = (spec.tags or {}).get(values.TAG_TOKEN, "")
        if self._now() < self.refuses_until:
            raise errors.Refused("the quota is used up", where="simulator")
        if self._now() < self.loses_until:
            raise errors.OutcomeUnknown("gateway timeout", where="simulator")
        if self._is_late():
            self._later(token, lambda: self._create(spec))
            raise errors.OutcomeUnknown("gateway timeout", where="simulator")
        return await super().provision(spec=spec)

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        found = self._aliases.get(instance, instance)
        if self._is_late():
            self.pending[found] += 1
            self._later(found, lambda: self._settle(found, lambda: self._destroy(found)))
            raise errors.OutcomeUnknown("gateway timeout", where="simulator")
        await super().destroy(instance=found, context=context)

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        kept = {} if self.more.ignores_labels else labels
        await super().label(instance=self._aliases.get(instance, instance), labels=kept)

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        if self._rng.random() < self.more.inspect_error_rate:
            raise self._rng.choice([errors.NotFound, errors.Refused, errors.PluginError])(
                "forbidden", where="simulator"
            )
        found = await super().inspect(instance=self._aliases.get(instance, instance))
        return self._shown(found) if found is not None else None

    async def identity(self) -> str:
        """Return the name of the account, which never changes."""
        return await self._call("identity", self.faults.describe, lambda: "account")

    def _is_late(self) -> bool:
        return bool(self.more.late_rate) and self._rng.random() < self.more.late_rate

    def _later(self, key: str, act: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        left_s = self.sent_at.get(key, loop.time()) + EFFECT_S_MAX - loop.time()

        def carry_out() -> None:
            with contextlib.suppress(errors.InfraKitError):
                act()

        loop.call_later(self._rng.uniform(0.0, max(0.0, left_s)), carry_out)

    def _settle(self, instance: InstanceID, act: Callable[[], object]) -> None:
        self.pending[instance] -= 1
        try:
            act()
        finally:
            if self.pending[instance] <= 0:
                del self.pending[instance]
                for each in self.settled:
                    each(instance)

    # -- the actual state ------------------------------------------------------------------------------------------

    def _create(self, spec: InstanceSpec) -> InstanceID:
        self._advance()
        before, reused = self._created_count, self._free_number()
        if reused:
            self._purge(InstanceID(f"sim-{reused}"))
            self._created_count = reused - 1
        try:
            instance = super()._create(spec)
        finally:
            if reused:
                self._created_count = before
        machine = self.machines.get(instance)
        if machine is not None and self._now() < self.sick_until:
            machine.healthy_at = math.inf
        return instance

    def _free_number(self) -> int:
        """The number of an ID that may be used again; 0 if there is none."""
        if not self.more.reuses_ids:
            return 0
        lag_s = self.faults.listing_lag_s + self.more.ended_shown_s
        for machine in self._ended:
            is_over = machine.terminated_at + lag_s < self._now()
            is_over = is_over and self.sent_at.get(machine.id, -math.inf) + EFFECT_S_MAX < self._now()
            if is_over and machine.id not in self.machines and machine.id not in self._aliases:
                self._ended.remove(machine)
                return int(machine.id.removeprefix("sim-"))
        return 0

    def _purge(self, instance: InstanceID) -> None:
        """Forget the times at which an earlier machine with this ID was to terminate or to disappear."""
        self._terminations = [each for each in self._terminations if each[1] != instance]
        heapq.heapify(self._terminations)

    def _destroy(self, instance: InstanceID) -> None:
        machine = self.machines.get(instance)
        if self.more.stops_s and machine is not None and machine.lives:
            self.stop(instance, for_s=self._rng.uniform(0.0, self.more.stops_s))
            return
        super()._destroy(instance)

    def stop(self, instance: InstanceID, *, for_s: float) -> None:
        """Shut a machine down: until that is over, it has its logical ID, and holds its volumes."""
        machine = self.machines[instance]
        if instance in self._stopping or not machine.lives:
            return
        self._stopping[instance] = self._now() + for_s
        self._changed += 1
        self._notify("stopping", machine)

        def end() -> None:
            if machine.lives and self.machines.get(instance) is machine:
                self.kill(instance)

        asyncio.get_running_loop().call_later(for_s, end)

    def kill(self, instance: InstanceID, *, at: float | None = None) -> None:
        self._stopping.pop(instance, None)
        self._finished.discard(instance)
        self._names.pop(instance, None)
        self.renamed.discard(instance)
        self._ended.append(self.machines[instance])
        super().kill(instance, at=at)

    def revive(self, rng: random.Random) -> InstanceID | None:
        """Run a terminated machine again, as another party may; a provider that locks identities may refuse that."""
        self._advance()
        candidates = [m for m in self._ended if not m.lives and self._may_run_again(m)]
        if not candidates:
            return None
        machine = rng.choice(candidates)
        self._ended.remove(machine)
        self._purge(machine.id)
        machine.terminated_at = machine.unlisted_at = machine.terminates_at = math.inf
        machine.description = None
        self.machines[machine.id] = machine
        self._groups.setdefault(machine.tags.get(values.TAG_GROUP, ""), {})[machine.id] = machine
        if machine.logical_id is not None:
            self._by_logical_id[machine.logical_id] = machine.id
        held = tuple(each for each in machine.attachments if each.id not in self._holders)
        machine.attachments = held  # a volume that another one holds stays there
        for attachment in held:
            self._holders[attachment.id] = machine.id
        self._changed += 1
        self._notify("revived", machine)
        return machine.id

    def _may_run_again(self, machine: Machine) -> bool:
        other = self.machines.get(machine.id)
        if other is not None and other is not machine:
            return False
        return not (self.faults.exclusive and machine.logical_id in self._by_logical_id)

    def finish(self, instance: InstanceID) -> None:
        """Let a machine exit on purpose: it counts as healthy for as long as it is listed."""
        machine = self.machines[instance]
        machine.healthy_at, machine.unhealthy_at = min(machine.healthy_at, self._now()), math.inf
        self._finished.add(instance)
        self._changed += 1

    def make_unhealthy(self, instance: InstanceID) -> None:
        if instance not in self._finished:
            super().make_unhealthy(instance)

    def rename(self, instance: InstanceID, shown: LogicalID | None) -> None:
        """From now on, list a machine without its logical ID, or with another one."""
        self._names[instance] = shown
        if shown is not None:
            self.renamed.add(instance)
        self._changed += 1

    def alias(self, instance: InstanceID) -> None:
        """From now on, list a machine under a second ID, too."""
        self._aliases[InstanceID(f"{instance}-b")] = instance

    def has_alias(self, instance: InstanceID) -> bool:
        """Whether a machine is listed under a second ID, too."""
        return instance in self._aliases.values()

    def unalias(self) -> None:
        """List every machine under its own ID and logical ID alone."""
        self._aliases.clear()
        self._names.clear()
        self._changed += 1

    def restore_tags(self) -> None:
        """Undo what others have done to tags, as an operator does."""
        for machine, name, before, after in reversed(self._edited):
            if machine.lives and machine.tags.get(name) == after:  # no label has replaced it since
                machine.tags[name] = before
                machine.description = None
        self._edited.clear()
        self._changed += 1

    def edit_tags(self, instance: InstanceID, edited: Mapping[str, str | None]) -> None:
        """Set or remove tags, as another party does."""
        machine = self.machines[instance]
        for name, value in edited.items():
            if name not in machine.tags:
                continue
            self._edited.append((machine, name, machine.tags[name], value))
            if value is None:
                del machine.tags[name]
            else:
                machine.tags[name] = value
        machine.description = None
        self._changed += 1

    def is_healthy(self, instance: InstanceID) -> bool:
        return super().is_healthy(self._aliases.get(instance, instance))

    def foreign(
        self, group: str, logical_id: LogicalID | None, volumes: Sequence[Attachment] = ()
    ) -> InstanceID | None:
        """Create an instance of a second installation with the same group name; None: the provider refuses it."""
        tags = {
            values.TAG_GROUP: group,
            values.TAG_TOKEN: f"{FOREIGN}/{group}/1/{self._created_count}",
            values.TAG_HASH: "foreign",
        }
        with contextlib.suppress(errors.Conflict):
            return self._create(InstanceSpec(tags=tags, logical_id=logical_id, attachments=tuple(volumes)))
        return None

    def real(self, instance: InstanceID) -> InstanceID:
        """Return the ID of the machine that has this one, if it is a second ID."""
        return self._aliases.get(instance, instance)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # -- listings --------------------------------------------------------------------------------------------------

    def _list(self, tags: Mapping[str, str], properties: bool) -> Sequence[Description]:
        listing = super()._list(tags, properties)
        if self._now() < self.empty_until:
            return ()
        shows_all = not (self._stopping or self._aliases or self._finished or self._names or self._is_odd)
        if shows_all or not listing:
            return listing
        shown = {each.id: self._shown(each) for each in listing}
        self._show_ended(shown, tags)
        for second, instance in self._aliases.items():
            if instance in shown:
                shown[second] = msgspec.structs.replace(shown[instance], id=second)
        entries = list(shown.values())
        if entries and self._rng.random() < self.more.repeat_rate:
            entries.append(self._rng.choice(entries))
        if entries and self._rng.random() < self.more.empty_id_rate:
            entries.append(msgspec.structs.replace(entries[0], id=InstanceID("")))
        return tuple(entries)

    @property
    def _is_odd(self) -> bool:
        more = self.more
        return bool(more.back_rate or more.repeat_rate or more.empty_id_rate or more.ended_shown_s)

    def _shown(self, description: Description) -> Description:
        if description.id in self._names:
            description = msgspec.structs.replace(description, logical_id=self._names[description.id])
        if description.id in self._stopping:
            return msgspec.structs.replace(description, state=State.STOPPING)
        if description.id in self._finished:
            return msgspec.structs.replace(description, state=State.FINISHED)
        return description

    def _show_ended(self, shown: dict[InstanceID, Description], tags: Mapping[str, str]) -> None:
        """Show terminated machines as such, or as they were, and omit new ones, as far as the lag permits."""
        now, lag_s = self._now(), self.faults.listing_lag_s
        goes_back = self._rng.random() < self.more.back_rate
        for machine in self._ended:
            age_s = now - machine.terminated_at
            if machine.lives or not tags.items() <= machine.tags.items():
                continue
            other = self.machines.get(machine.id)
            if other is not None and other is not machine:
                continue  # the ID was used again
            if goes_back and age_s < lag_s and self._rng.random() < 0.5:
                shown[machine.id] = msgspec.structs.replace(machine.describe(now), state=State.RUNNING)
            elif age_s < self.more.ended_shown_s:
                shown[machine.id] = msgspec.structs.replace(machine.describe(now), state=State.TERMINATED)
        if goes_back:
            for instance in list(shown):
                new = self.machines.get(instance)
                if new is not None and now - new.created_at < lag_s and self._rng.random() < 0.5:
                    del shown[instance]

    # -- watching --------------------------------------------------------------------------------------------------

    def _hint(self, _what: str, _machine: Machine) -> None:
        happened, self._on_event = self._on_event, asyncio.Event()
        happened.set()

    async def watch(self) -> AsyncIterator[str]:
        while True:
            await self._on_event.wait()
            if not self.watch_stops:
                yield "something has changed"
