"""An in-memory provider with fault injection, to try declarations and to test controllers.

Its faults are one value that may be replaced at any time. Time is the event loop's and randomness is injected, so that
under a virtual clock the seed reproduces a run exactly.
"""

import asyncio
import heapq
import math
import random
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar

import msgspec

from infrakit.instances.simulator.faults import Faults, Spread
from infrakit.instances.simulator.machine import Machine, Properties
from infrakit.spec import validate
from infrakit.spi import errors, values
from infrakit.spi.instance import Capabilities, DestroyContext
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec

__all__ = ["Faults", "Machine", "Simulator", "Spread"]

T = TypeVar("T")

CHANGING = {"provision", "destroy", "label"}
TERMINATED_KEPT = 10_000  # how many tokens of terminated machines are remembered
Watcher = Callable[[str, Machine], None]


class Simulator:
    """Simulates a provider. Satisfies `Instance`, `Capable`, `Inspects`, `Volumes` and `Keeps`."""

    def __init__(
        self, faults: Faults | None = None, *, random: random.Random | None = None, prefix: str = "sim"
    ) -> None:
        self.faults = faults or Faults()
        self.machines: dict[InstanceID, Machine] = {}  # machines that run or are still listed
        self.calls: dict[str, int] = {}  # number of calls that have started, by method
        self.in_flight = 0
        self.in_flight_most = 0
        self.watchers: list[Watcher] = []  # called with "created" and "ended" when it happens, before it is listed
        self._rng = random or Random()  # noqa: S311 - faults are no secrets
        self._prefix = prefix  # of the IDs; different if one process has several simulators
        self._by_token: dict[str, InstanceID] = {}
        self._by_logical_id: dict[str, InstanceID] = {}
        self._holders: dict[str, InstanceID] = {}
        self._attachments: set[Attachment] = set()
        self._groups: dict[str, dict[InstanceID, Machine]] = {}
        self._terminations: list[tuple[float, InstanceID]] = []
        self._created_count = 0
        self._tokens_left = float(self.faults.burst)
        self._refilled_at = 0.0
        self._changed = 0
        self._listings: dict[str, tuple[int, float, tuple[Description, ...]]] = {}

    async def capabilities(self) -> Capabilities:
        return Capabilities(listing_lag_s=self.faults.listing_lag_s, tokens=self.faults.tokens)

    async def validate(self, *, properties: msgspec.Raw) -> None:
        validate.properties(properties, Properties)

    # -- calls -----------------------------------------------------------------------------------------------------

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        return await self._call("provision", self.faults.provision, lambda: self._create(spec))

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        del context
        await self._call("destroy", self.faults.destroy, lambda: self._destroy(instance))

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        await self._call("label", self.faults.label, lambda: self._label(instance, labels))

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        def find() -> Description | None:
            self._advance()
            machine = self.machines.get(instance)
            now = asyncio.get_running_loop().time()
            return machine.describe(now) if machine is not None and machine.lives else None

        return await self._call("inspect", self.faults.describe, find)

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        return await self._call("describe", self.faults.describe, lambda: self._list(tags, properties))

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        self._advance()
        holder = self._holders.get(attachment.id)
        if holder is not None:
            raise errors.Conflict(f"{holder} holds {attachment.id}", where="simulator")
        self._attachments.discard(attachment)

    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        def find() -> Sequence[Attachment]:
            return [each for each in attachments if each in self._attachments]

        return await self._call("existing", self.faults.describe, find)

    async def _call(self, kind: str, takes: Spread, act: Callable[[], T]) -> T:
        """Run one call with its faults: failures before the action, the action, failures after it."""
        self.prepare_call()
        self.calls[kind] = self.calls.get(kind, 0) + 1
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        try:
            self._throttle()
            faults, rng = self.faults, self._rng
            delay_s = takes.draw(rng) + (faults.slow if rng.random() < faults.slow_rate else 0.0)
            if delay_s:
                await asyncio.sleep(delay_s / 2)
            self._fail_before(kind)
            result = act()
            if delay_s:
                await asyncio.sleep(delay_s / 2)
            if kind in CHANGING:
                await self._fail_after()
            return result
        finally:
            self.in_flight -= 1

    def prepare_call(self) -> None:
        """Do nothing; a hook for subclasses that adjust the faults before each call."""

    def _throttle(self) -> None:
        limit = self.faults.per_second
        if not limit:
            return
        now = asyncio.get_running_loop().time()
        self._tokens_left = min(self.faults.burst, self._tokens_left + (now - self._refilled_at) * limit)
        self._refilled_at = now
        if self._tokens_left < 1.0:
            raise errors.Throttled("too many requests", after_s=(1.0 - self._tokens_left) / limit, where="simulator")
        self._tokens_left -= 1.0

    def _fail_before(self, kind: str) -> None:
        faults, rng = self.faults, self._rng
        if faults.down or rng.random() < faults.unreachable_rate:
            raise errors.Unreachable("connection refused", where="simulator")
        if kind == "provision" and rng.random() < faults.refuse_rate:
            raise errors.Refused("no capacity in this zone", where="simulator")
        if rng.random() < faults.fail_rate / 2:
            raise errors.PluginError("internal error", where="simulator")

    async def _fail_after(self) -> None:
        faults, rng = self.faults, self._rng
        if rng.random() < faults.fail_rate / 2:
            raise errors.PluginError("internal error", where="simulator")
        if rng.random() < faults.lost_rate:
            raise errors.OutcomeUnknown("connection reset", where="simulator")
        if rng.random() < faults.hang_rate:
            await asyncio.get_running_loop().create_future()

    # -- the actual state, whatever listings show ------------------------------------------------------------------

    def _create(self, spec: InstanceSpec) -> InstanceID:
        self._advance()
        now, faults, rng = asyncio.get_running_loop().time(), self.faults, self._rng
        declared = validate.properties(spec.properties, Properties)
        tags = dict(spec.tags or {})
        token = tags.get(values.TAG_TOKEN, "")
        if token and faults.tokens and token in self._by_token:
            return self._by_token[token]
        if declared.refuse:
            raise errors.Refused("its properties declare Refuse", where="simulator")
        if faults.capacity is not None and sum(m.lives for m in self.machines.values()) >= faults.capacity:
            raise errors.Refused(f"capacity is {faults.capacity}", where="simulator")
        if faults.exclusive:
            self._check_exclusive(spec)
        self._created_count += 1
        machine = Machine(
            id=InstanceID(f"{self._prefix}-{self._created_count}"),
            logical_id=spec.logical_id,
            tags=tags,
            token=token,
            attachments=tuple(spec.attachments or ()),
            properties=spec.properties,
            created_at=now,
            listed_at=now + faults.lag.draw(rng),
            healthy_at=now + declared.boot_time + faults.boot.draw(rng),
        )
        if declared.never_healthy or rng.random() < faults.never_healthy_rate:
            machine.healthy_at = math.inf
        if faults.unhealthy_after:
            machine.unhealthy_at = machine.healthy_at + rng.expovariate(1.0 / faults.unhealthy_after)
        if declared.lifetime or faults.lifetime:
            machine.terminates_at = now + (declared.lifetime or rng.expovariate(1.0 / faults.lifetime))
            heapq.heappush(self._terminations, (machine.terminates_at, machine.id))
        self._register(machine)
        return machine.id

    def _check_exclusive(self, spec: InstanceSpec) -> None:
        other = self._by_logical_id.get(spec.logical_id or "")
        if other is not None:
            raise errors.Conflict(f"{other} has the logical ID {spec.logical_id}", where="simulator")
        for attachment in spec.attachments or ():
            holder = self._holders.get(attachment.id)
            if holder is not None:
                raise errors.Conflict(f"{holder} holds {attachment.id}", where="simulator")

    def _register(self, machine: Machine) -> None:
        self.machines[machine.id] = machine
        if machine.token:
            self._by_token[machine.token] = machine.id
            if len(self._by_token) > TERMINATED_KEPT + len(self.machines):
                del self._by_token[next(iter(self._by_token))]
        if machine.logical_id is not None:
            self._by_logical_id[machine.logical_id] = machine.id
        for attachment in machine.attachments:
            self._holders[attachment.id] = machine.id
            self._attachments.add(attachment)
        self._groups.setdefault(machine.tags.get(values.TAG_GROUP, ""), {})[machine.id] = machine
        self._changed += 1
        self._notify("created", machine)

    def _destroy(self, instance: InstanceID) -> None:
        self._advance()
        machine = self.machines.get(instance)
        if machine is None:
            raise errors.NotFound(f"there is no {instance}", where="simulator")
        if machine.lives:
            self.kill(instance)

    def kill(self, instance: InstanceID, *, at: float | None = None) -> None:
        """Terminate the machine now (or as of `at`), which releases its logical ID and attachments."""
        machine = self.machines[instance]
        machine.terminated_at = asyncio.get_running_loop().time() if at is None else at
        machine.unlisted_at = machine.terminated_at + self.faults.termination_lag.draw(self._rng)
        if self._by_logical_id.get(machine.logical_id or "") == instance:
            del self._by_logical_id[machine.logical_id or ""]
        for attachment in machine.attachments:
            if self._holders.get(attachment.id) == instance:
                del self._holders[attachment.id]
        heapq.heappush(self._terminations, (machine.unlisted_at, instance))
        self._changed += 1
        self._notify("ended", machine)

    def make_unhealthy(self, instance: InstanceID) -> None:
        """Make the machine unhealthy from now on."""
        self.machines[instance].unhealthy_at = asyncio.get_running_loop().time()
        self._changed += 1

    def detach(self, instance: InstanceID) -> None:
        """Take the attachments from a running machine, which otherwise does not change."""
        machine = self.machines[instance]
        for attachment in machine.attachments:
            self._holders.pop(attachment.id, None)
        machine.attachments, machine.description = (), None
        self._changed += 1

    def _label(self, instance: InstanceID, labels: Mapping[str, str]) -> None:
        machine = self.machines.get(instance)
        if machine is None or not machine.lives:
            raise errors.NotFound(f"there is no {instance}", where="simulator")
        machine.tags.update(labels)
        machine.description = None
        self._changed += 1

    def adopt(self, *, tags: Mapping[str, str], logical_id: values.LogicalID | None = None) -> InstanceID:
        """Create a machine outside the controller: a seed node."""
        return self._create(InstanceSpec(tags=dict(tags), logical_id=logical_id))

    def _advance(self) -> None:
        """Terminate machines whose lifetime is over, and forget those that are no longer listed."""
        now = asyncio.get_running_loop().time()
        while self._terminations and self._terminations[0][0] <= now:
            at, instance = heapq.heappop(self._terminations)
            machine = self.machines.get(instance)
            if machine is None:
                continue
            if machine.lives:
                self.kill(instance, at=at)
            elif machine.unlisted_at <= now:
                del self.machines[instance]
                del self._groups[machine.tags.get(values.TAG_GROUP, "")][instance]
                self._changed += 1

    def _notify(self, what: str, machine: Machine) -> None:
        for watcher in self.watchers:
            watcher(what, machine)

    def is_healthy(self, instance: InstanceID) -> bool:
        """Return the true health of the machine, as a flavor with perfect knowledge would report it."""
        self._advance()
        machine = self.machines.get(instance)
        return machine is not None and machine.is_healthy(asyncio.get_running_loop().time())

    def live(self) -> list[Machine]:
        """Return the machines that actually run, whatever listings show."""
        self._advance()
        return [m for m in self.machines.values() if m.lives]

    # -- listings --------------------------------------------------------------------------------------------------

    def _list(self, tags: Mapping[str, str], properties: bool) -> Sequence[Description]:
        self._advance()
        faults, rng = self.faults, self._rng
        if rng.random() < faults.partial_rate:
            raise errors.PluginError("the second page of the listing failed", where="simulator")
        if faults.blind or rng.random() < faults.empty_rate:
            return ()
        listing = self._complete(tags, properties)
        if rng.random() < faults.silent_partial_rate:
            return tuple(d for d in listing if rng.random() >= faults.silent_part)
        return listing

    def _complete(self, tags: Mapping[str, str], properties: bool) -> tuple[Description, ...]:
        """Return the complete listing, cached as one object until something changes, so that polling is cheap."""
        now = asyncio.get_running_loop().time()
        key = f"{sorted(tags.items())} {properties}"
        changed, until, listing = self._listings.get(key, (-1, 0.0, ()))
        if changed == self._changed and now < until:
            return listing
        group = tags.get(values.TAG_GROUP)
        machines = self.machines if group is None else self._groups.get(group, {})
        visible = [m for m in machines.values() if m.listed_at <= now < m.unlisted_at]
        if len(tags) > (group is not None):
            visible = [m for m in visible if tags.items() <= m.tags.items()]
        listing = tuple(m.describe(now, properties=properties) for m in visible)
        transitions = (at for m in machines.values() for at in (m.listed_at, m.healthy_at, m.unhealthy_at) if at > now)
        until = min(min(transitions, default=math.inf), self._terminations[0][0] if self._terminations else math.inf)
        self._listings[key] = (self._changed, until, listing)
        return listing
