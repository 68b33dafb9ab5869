"""The laws, held against what really happens: at every call that begins, every creation and every death.

What a controller knows is always a little old. A law therefore asks for what it could know: a decision is not held
against a death or a change of the declaration that came a moment before. The first law knows no such patience.

A call has begun when it leaves the replica's process. It may be carried out later, whatever became of the replica.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from infrakit.instances.simulator import Machine, Simulator
from infrakit.manager.declaration import record
from infrakit.manager.declaration.record import Record
from infrakit.manager.lead import ledger
from infrakit.simulation.loops import Timeline
from infrakit.spi import values
from infrakit.spi.group import Group, amount
from infrakit.spi.store import Document
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec

MEMORY_S = 200.0  # a call may take 120 s and was planned a cycle before
MOMENT_S = 60.0  # what a decision may not know yet
HEARSAY_S = 15.0  # until whoever leads has heard of what was ordered elsewhere
UNDER_WAY_S = 120.0  # a call that got no answer may be carried out for so long


class Caller(NamedTuple):
    """Who begins a call, and by what right."""

    name: str
    epoch: int  # 0: none
    leads_until: float  # true time until which its own observation may be believed


class Laws:
    """What is known of one run, and the checks."""

    def __init__(self, simulator: Simulator, timeline: Timeline, *, lying: bool) -> None:
        self.simulator = simulator
        self.lying = lying  # the provider leaves out instances silently, and a controller has lost its memory
        self.halted: dict[GroupID | None, float] = {}  # from when on nothing may be begun
        self.versions: dict[int, Document] = {}  # of the declaration
        self.acknowledged = 0  # the newest version that an operator was told of
        self.epoch = 0  # the newest that was taken
        self.terms = 0
        self.calls = 0
        self.overlaps = 0
        self.verdict = ""
        self._timeline = timeline
        self._acting = Caller(name="nobody", epoch=0, leads_until=0.0)  # who has begun the newest call
        self._records: collections.deque[tuple[float, Record]] = collections.deque()
        self._changed_at = 0.0
        self._disturbed_at: dict[GroupID, float] = {}
        self._taken: dict[
            GroupID, dict[str, tuple[float, Machine]]
        ] = {}  # quorum members that our calls may have ended
        self._alive: dict[GroupID, dict[InstanceID, Machine]] = {}
        self._made: dict[str, int] = {}
        self._ending: set[tuple[str, GroupID, InstanceID]] = set()  # by whom, whose answer has not come
        simulator.watchers.append(self._happened)

    @property
    def now(self) -> float:
        return self._timeline.now

    @property
    def record(self) -> Record:
        """What is declared, in truth."""
        return self._records[-1][1] if self._records else Record()

    # -- what the store keeps --------------------------------------------------------------------------------------

    def written(self, document: Document) -> None:
        """A revision is durable."""
        if document.name == ledger.NAME:
            epoch = msgspec.json.decode(document.body, type=ledger.Book).epoch
            self._must(epoch >= self.epoch, f"1 one actor: epoch {epoch} was taken after {self.epoch}")
            self.terms += epoch > self.epoch
            self.epoch = epoch
        elif document.name == record.NAME:
            newest = max(self.versions, default=0)
            self._must(document.revision == newest + 1, f"6 never lost: {document.revision} came after {newest}")
            self.versions[document.revision] = document
            self.declared(record.decode(document.body))

    def declared(self, now_declared: Record) -> None:
        """The declaration is another."""
        self._records.append((self.now, now_declared))
        while len(self._records) > 1 and self._records[1][0] < self.now - MEMORY_S:
            self._records.popleft()
        self._changed_at = self.now

    def told(self, version: int, why: str, *, changed: bool) -> None:
        """An operator was told that an order is durable at that version, which it has brought about if it changed."""
        kept = self.versions.get(version)
        self._must(kept is not None, f"6 never lost: version {version} was acknowledged and is not in the store")
        self._must(version >= self.acknowledged, f"6 never lost: version {version} follows {self.acknowledged}")
        if changed and kept is not None:
            found = record.decode(kept.body).entry.why
            self._must(found == why, f"6 never lost: version {version} was acknowledged as {why}, and is {found}")
        self.acknowledged = max(self.acknowledged, version)

    def kept(self, history: dict[int, bytes]) -> None:
        """What the store keeps at the end is everything that was ever durable."""
        for version, document in self.versions.items():
            self._must(history.get(version) == document.body, f"6 never lost: version {version} is gone or another")

    # -- what the world tells --------------------------------------------------------------------------------------

    def _happened(self, what: str, machine: Machine) -> None:
        group = GroupID(machine.tags.get(values.TAG_GROUP, ""))
        alive = self._alive.setdefault(group, {})
        if what == "ended":
            alive.pop(machine.id, None)
            self._disturbed_at[group] = machine.dead_at
            return
        if not machine.token:
            self._disturbed_at[group] = self.now  # somebody else made it
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

    def creating(self, caller: Caller, spec: InstanceSpec) -> None:
        tags = spec.tags or {}
        group = GroupID(tags.get(values.TAG_GROUP, ""))
        self.acting(caller, "create", group)
        if spec.logical_id is None or self.lying:
            return
        for other in self._alive.get(group, {}).values():
            second = other.logical_id == spec.logical_id and other.token != tags.get(values.TAG_TOKEN)
            self._must(not second, f"2 one bearer: asked for a second {spec.logical_id} while {other.id} lives")

    def destroying(self, caller: Caller, instance: InstanceID) -> None:
        group, now_declared = self.group_of(instance), self.record
        self.acting(caller, "destroy", group)
        self._ending.add((caller.name, group, instance))
        machine = self.simulator.machines.get(instance)
        if machine is None or not machine.lives or group not in now_declared.groups:
            return
        orders = now_declared.orders_of(group)
        if orders.destroying is not None or instance in orders.evictions:
            return
        self._not_the_healthy(machine, group, now_declared)
        self._not_the_majority(machine, group, now_declared)

    def changing(self, caller: Caller, instances: Sequence[Description]) -> None:
        """A change of a list of members leaves its process."""
        group = GroupID(next(((each.tags or {}).get(values.TAG_GROUP, "") for each in instances), ""))
        self.acting(caller, "change the list", group)
        declared = self.record.groups.get(group)
        if declared is not None and _is_quorum(declared):
            alive = self._alive.get(group, {})  # an order for one that is dead by now may still wait for its answer
            ended = [i for name, of, i in self._ending if (name, of) == (caller.name, group) and i in alive]
            self._must(not ended, f"5 never worse: the list of {group} is changed while {ended} are being ended")

    def answered(self, caller: Caller, instance: InstanceID) -> None:
        """Whoever ordered a destruction waits no longer."""
        self._ending = {each for each in self._ending if (each[0], each[2]) != (caller.name, instance)}

    def taken_off(self, machine: Machine) -> None:
        """A member is off the list of members."""
        self._must(not machine.lives or self.lying, f"2 one bearer: {machine.id} lives and was taken off the list")

    def group_of(self, instance: InstanceID) -> GroupID:
        """Empty for an instance that is gone."""
        machine = self.simulator.machines.get(instance)
        return GroupID(machine.tags.get(values.TAG_GROUP, "") if machine is not None else "")

    def acting(self, caller: Caller, what: str, group: GroupID) -> None:
        """A call that changes infrastructure leaves its process."""
        self.calls += 1
        before = self._acting
        self._acting = max(before, caller, key=lambda each: each.epoch)
        second = caller.epoch == before.epoch and caller.name != before.name
        self.overlaps += caller.epoch < before.epoch or second
        self._must(caller.epoch > 0, f"1 one actor: {what} by {caller.name}, which holds no epoch")
        self._must(
            caller.epoch >= before.epoch and not second,
            f"1 one actor: {what} by {caller.name} of epoch {caller.epoch}, after {before.name} of {before.epoch}",
        )
        self._must(
            self.now < caller.leads_until,
            f"1 one actor: {what} by {caller.name}, whose observation is {self.now - caller.leads_until:.2f} s too old",
        )
        for target, since in self.halted.items():
            if target in (None, group) and self.now > since:
                halt = self.record.halt if target is None else self.record.orders_of(group).halt
                self._must(halt is None, f"9 stop means stop: {what} in {group}, which is halted")

    def _not_the_healthy(self, machine: Machine, group: GroupID, now_declared: Record) -> None:
        now = self.now
        declared, alive = now_declared.groups[group], self._alive.get(group, {})
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

    def _not_the_majority(self, machine: Machine, group: GroupID, now_declared: Record) -> None:
        declared = now_declared.groups[group]
        ids = declared.properties.allocation.logical_ids
        if ids is None or not _is_quorum(declared) or machine.logical_id not in ids:
            return
        taken = self._taken.setdefault(group, {})
        taken[str(machine.logical_id)] = (self.now, machine)
        long_ago = self.now - UNDER_WAY_S
        gone = [i for i in map(str, ids) if i in taken and (not taken[i][1].lives or taken[i][0] > long_ago)]
        can_lose = max(1, (len(ids) - 1) // 2)
        self._must(len(gone) <= can_lose, f"5 never worse: {gone} of the quorum {group} are gone by our hand")

    def destroyed(self, instance: InstanceID) -> None:
        """The call is over, whatever it says; a machine that still lives was not taken."""
        machine = self.simulator.machines.get(instance)
        if machine is not None and machine.lives:
            group = GroupID(machine.tags.get(values.TAG_GROUP, ""))
            self._taken.get(group, {}).pop(str(machine.logical_id), None)

    # -- claims and ends -------------------------------------------------------------------------------------------

    def converged(self, caller: Caller, group: GroupID) -> None:
        """A controller says that its group has converged; one that may not act any more is not believed anyway."""
        if caller.epoch != self.epoch or self.now >= caller.leads_until:
            return
        self.simulator.live()  # lets those die whose time has come
        calm = self.now - self._disturbed_at.get(group, -MEMORY_S) > MOMENT_S
        if calm and self.now - self._changed_at > HEARSAY_S and not self.lying and group in self.record.groups:
            self.exact(group, self.record, "7 converged means converged")

    def exact(self, group: GroupID, now_declared: Record, law: str) -> None:
        """What lives is exactly what is declared."""
        declared = now_declared.groups[group]
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

    def _must(self, blocked: bool, law: str) -> None:
        if not blocked and not self.verdict and not self._timeline.over:
            self.verdict = f"{law} (at {self.now:.1f} s)"  # raising here would only look like a fault of the provider


def _is_quorum(declared: Group) -> bool:
    return b'"Quorum":true' in bytes(declared.properties.flavor.properties).replace(b" ", b"")


def _ceiling(declaration: Record, group: GroupID) -> int:
    declared = declaration.groups.get(group)
    if declared is None:
        return 0
    allocation = declared.properties.allocation
    if allocation.logical_ids is not None:
        return len(allocation.logical_ids) + 2  # undeclared ones may still be on their way out
    size = allocation.size or 0
    return size + amount(declared.properties.updating.max_surge, size)
