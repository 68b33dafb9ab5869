"""Checks the laws against the true state of the world: at the start of every call, at every creation and termination.

The knowledge of a controller always lags. A law therefore considers only what the controller could know: a decision
does not break it because of a termination or a change of the declaration within the last `DECISION_LAG_S`. The first
law allows no such delay.

A call starts when it leaves the process of its replica. The provider may execute it later, even if the replica has been
killed by then.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple

from infrakit.instances.simulator import Machine, Simulator
from infrakit.manager.declaration import record
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.lead import ledger
from infrakit.simulation.loops import Timeline
from infrakit.spi import codec, values
from infrakit.spi.group import Group, amount
from infrakit.spi.store import Document
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec

RECORD_AGE_S = 200.0  # a call may take 120 s and was planned one cycle earlier
DECISION_LAG_S = 60.0  # a decision may not know about changes that are more recent than this
PROPAGATION_S = 15.0  # until a command that another replica acknowledged has reached the leader
IN_FLIGHT_S = 120.0  # a call without a response may still be executed within this time


class Caller(NamedTuple):
    """The process that starts a call, and the epoch and leadership under which it does."""

    name: str
    epoch: int  # 0: none
    leads_until: float  # true time at which its own leadership observation expires


class Laws:
    """The checks of one run, and the true history that they need."""

    def __init__(self, simulator: Simulator, timeline: Timeline, *, incomplete: bool) -> None:
        self.simulator = simulator
        self.incomplete = incomplete  # listings omit instances silently, and a controller lost its state
        self.halted: dict[GroupID | None, float] = {}  # the time from which no call may start
        self.versions: dict[int, Document] = {}  # all durable versions of the declaration
        self.newest_acknowledged = 0  # the newest version that was acknowledged to an operator
        self.epoch = 0  # the newest epoch that was acquired
        self.terms = 0
        self.calls = 0
        self.overlaps = 0
        self.verdict = ""
        self._timeline = timeline
        self._acting = Caller(name="none", epoch=0, leads_until=0.0)  # caller of the newest epoch
        self._records: collections.deque[tuple[float, DeclarationRecord]] = collections.deque()
        self._changed_at = 0.0
        self._disturbed_at: dict[GroupID, float] = {}
        # Quorum members that calls of InfraKit may have destroyed.
        self._taken: dict[GroupID, dict[str, tuple[float, Machine]]] = {}
        self._alive: dict[GroupID, dict[InstanceID, Machine]] = {}
        self._created: dict[str, int] = {}
        # Destroy calls without a response: process, group, instance.
        self._destroying: set[tuple[str, GroupID, InstanceID]] = set()
        simulator.watchers.append(self._on_change)

    @property
    def now(self) -> float:
        return self._timeline.now

    @property
    def record(self) -> DeclarationRecord:
        """The newest durable declaration."""
        return self._records[-1][1] if self._records else DeclarationRecord()

    # -- the store -------------------------------------------------------------------------------------------------

    def written(self, document: Document) -> None:
        """Check a document revision that has become durable."""
        if document.name == ledger.NAME:
            epoch = codec.decode(document.body, ledger.LedgerDocument).epoch
            self._require(epoch >= self.epoch, f"1 one actor: epoch {epoch} was acquired after {self.epoch}")
            self.terms += epoch > self.epoch
            self.epoch = epoch
        elif document.name == record.NAME:
            newest = max(self.versions, default=0)
            self._require(document.revision == newest + 1, f"6 never lost: {document.revision} came after {newest}")
            self.versions[document.revision] = document
            self.declared(record.decode(document.body))

    def declared(self, now_declared: DeclarationRecord) -> None:
        """Record a change of the declaration."""
        self._records.append((self.now, now_declared))
        while len(self._records) > 1 and self._records[1][0] < self.now - RECORD_AGE_S:
            self._records.popleft()
        self._changed_at = self.now

    def acknowledged(self, version: int, why: str, *, changed: bool) -> None:
        """Check a version that was acknowledged to an operator; if `changed`, the command has created it."""
        stored = self.versions.get(version)
        self._require(stored is not None, f"6 never lost: version {version} was acknowledged and is not in the store")
        self._require(
            version >= self.newest_acknowledged, f"6 never lost: version {version} follows {self.newest_acknowledged}"
        )
        if changed and stored is not None:
            found = record.decode(stored.body).entry.why
            self._require(found == why, f"6 never lost: version {version} was acknowledged as {why}, and is {found}")
        self.newest_acknowledged = max(self.newest_acknowledged, version)

    def check_history(self, history: dict[int, bytes]) -> None:
        """Require that the store still holds every version that was ever durable."""
        for version, document in self.versions.items():
            self._require(
                history.get(version) == document.body, f"6 never lost: version {version} is missing or differs"
            )

    # -- the world -------------------------------------------------------------------------------------------------

    def _on_change(self, what: str, machine: Machine) -> None:
        group = GroupID(machine.tags.get(values.TAG_GROUP, ""))
        alive = self._alive.setdefault(group, {})
        if what == "ended":
            alive.pop(machine.id, None)
            self._disturbed_at[group] = machine.terminated_at
            return
        if not machine.token:
            self._disturbed_at[group] = self.now  # an external process created it
        self._taken.get(group, {}).pop(str(machine.logical_id), None)
        if machine.token:
            self._created[machine.token] = self._created.get(machine.token, 0) + 1
            self._require(
                self._created[machine.token] == 1, f"3 exactly one: two instances for the token {machine.token}"
            )
        for other in alive.values():
            same = machine.logical_id is not None and other.logical_id == machine.logical_id
            self._require(not same, f"2 one per identity: {machine.id} and {other.id} both have {machine.logical_id}")
        alive[machine.id] = machine
        if machine.token and not self.incomplete:
            allowed = max((_ceiling(r, group) for _, r in self._records), default=0)
            ours = sum(bool(m.token) for m in alive.values())  # instances of external processes may not be listed yet
            self._require(
                ours <= allowed, f"3 exactly one: {len(alive)} instances of {group} are alive, {allowed} are declared"
            )

    # -- starts of calls -------------------------------------------------------------------------------------------

    def creating(self, caller: Caller, spec: InstanceSpec) -> None:
        """Check a creation when its call leaves the process of its caller."""
        tags = spec.tags or {}
        group = GroupID(tags.get(values.TAG_GROUP, ""))
        self.acting(caller, "create", group)
        if spec.logical_id is None or self.incomplete:
            return
        for other in self._alive.get(group, {}).values():
            second = other.logical_id == spec.logical_id and other.token != tags.get(values.TAG_TOKEN)
            self._require(
                not second, f"2 one per identity: requested a second {spec.logical_id} while {other.id} is alive"
            )

    def destroying(self, caller: Caller, instance: InstanceID) -> None:
        """Check a destruction when its call leaves the process of its caller."""
        group, now_declared = self.group_of(instance), self.record
        self.acting(caller, "destroy", group)
        self._destroying.add((caller.name, group, instance))
        machine = self.simulator.machines.get(instance)
        if machine is None or not machine.lives or group not in now_declared.groups:
            return
        orders = now_declared.orders_of(group)
        if orders.destroying is not None or instance in orders.evictions:
            return
        self._not_the_healthy(machine, group, now_declared)
        self._not_the_majority(machine, group, now_declared)

    def changing(self, caller: Caller, instances: Sequence[Description]) -> None:
        """Check a membership change when its call leaves the process of its caller."""
        group = GroupID(next(((each.tags or {}).get(values.TAG_GROUP, "") for each in instances), ""))
        self.acting(caller, "change the membership", group)
        declared = self.record.groups.get(group)
        if declared is not None and _is_quorum(declared):
            alive = self._alive.get(group, {})  # a destroy call for a terminated one may still await its response
            destroyed = [i for name, of, i in self._destroying if (name, of) == (caller.name, group) and i in alive]
            self._require(
                not destroyed, f"5 never worse: membership of {group} changed while {destroyed} are being destroyed"
            )

    def answered(self, caller: Caller, instance: InstanceID) -> None:
        """Record that a destroy call has returned to its caller."""
        self._destroying = {each for each in self._destroying if (each[0], each[2]) != (caller.name, instance)}

    def member_removed(self, machine: Machine) -> None:
        """Check a member that has been removed from the member list."""
        self._require(
            not machine.lives or self.incomplete,
            f"2 one per identity: {machine.id} is alive and was removed from the member list",
        )

    def group_of(self, instance: InstanceID) -> GroupID:
        """Return the group of an instance; empty for an unknown one."""
        machine = self.simulator.machines.get(instance)
        return GroupID(machine.tags.get(values.TAG_GROUP, "") if machine is not None else "")

    def acting(self, caller: Caller, what: str, group: GroupID) -> None:
        """Check any call that changes infrastructure when it leaves the process of its caller."""
        self.calls += 1
        before = self._acting
        self._acting = max(before, caller, key=lambda each: each.epoch)
        second = caller.epoch == before.epoch and caller.name != before.name
        self.overlaps += caller.epoch < before.epoch or second
        self._require(caller.epoch > 0, f"1 one actor: {what} by {caller.name}, which holds no epoch")
        self._require(
            caller.epoch >= before.epoch and not second,
            f"1 one actor: {what} by {caller.name} of epoch {caller.epoch}, after {before.name} of {before.epoch}",
        )
        self._require(
            self.now < caller.leads_until,
            f"1 one actor: {what} by {caller.name}, whose observation expired {self.now - caller.leads_until:.2f}s ago",
        )
        for target, since in self.halted.items():
            if target in (None, group) and self.now > since:
                halt = self.record.halt if target is None else self.record.orders_of(group).halt
                self._require(halt is None, f"9 stop means stop: {what} in {group}, which is halted")

    def _not_the_healthy(self, machine: Machine, group: GroupID, now_declared: DeclarationRecord) -> None:
        now = self.now
        declared, alive = now_declared.groups[group], self._alive.get(group, {})
        current = machine.tags.get(values.TAG_HASH) in {declared.hash, values.BOOTSTRAP}
        calm = (
            now - self._changed_at > DECISION_LAG_S
            and now - self._disturbed_at.get(group, -RECORD_AGE_S) > DECISION_LAG_S
        )
        if not (current and calm and machine.is_healthy(now) and machine.is_healthy(now - DECISION_LAG_S)):
            return
        ids = declared.properties.allocation.logical_ids
        if ids is not None:
            needed = machine.logical_id in ids
        else:
            needed = len(alive) <= (declared.properties.allocation.size or 0)
        self._require(
            not needed, f"5 never worse: {machine.id} of {group} is destroyed while healthy, current and declared"
        )

    def _not_the_majority(self, machine: Machine, group: GroupID, now_declared: DeclarationRecord) -> None:
        declared = now_declared.groups[group]
        ids = declared.properties.allocation.logical_ids
        if ids is None or not _is_quorum(declared) or machine.logical_id not in ids:
            return
        taken = self._taken.setdefault(group, {})
        taken[str(machine.logical_id)] = (self.now, machine)
        long_ago = self.now - IN_FLIGHT_S
        lost = [i for i in map(str, ids) if i in taken and (not taken[i][1].lives or taken[i][0] > long_ago)]
        can_lose = max(1, (len(ids) - 1) // 2)
        self._require(len(lost) <= can_lose, f"5 never worse: {lost} of the quorum {group} were destroyed at once")

    def destroyed(self, instance: InstanceID) -> None:
        """Record that a destroy call has ended, with any result. A live machine does not count as destroyed."""
        machine = self.simulator.machines.get(instance)
        if machine is not None and machine.lives:
            group = GroupID(machine.tags.get(values.TAG_GROUP, ""))
            self._taken.get(group, {}).pop(str(machine.logical_id), None)

    # -- convergence -----------------------------------------------------------------------------------------------

    def converged(self, caller: Caller, group: GroupID) -> None:
        """Check a report that a group has converged. It is ignored if its caller does not hold leadership."""
        if caller.epoch != self.epoch or self.now >= caller.leads_until:
            return
        self.simulator.live()  # terminates the machines whose lifetime is over
        calm = self.now - self._disturbed_at.get(group, -RECORD_AGE_S) > DECISION_LAG_S
        if calm and self.now - self._changed_at > PROPAGATION_S and not self.incomplete and group in self.record.groups:
            self.exact(group, self.record, "7 converged means converged")

    def exact(self, group: GroupID, now_declared: DeclarationRecord, law: str) -> None:
        """Require that the living instances match the declaration exactly."""
        declared = now_declared.groups[group]
        alive = [m for m in self.simulator.live() if m.tags.get(values.TAG_GROUP) == group]
        allocation = declared.properties.allocation
        if allocation.logical_ids is not None:
            have = sorted(str(m.logical_id) for m in alive)
            self._require(have == sorted(map(str, allocation.logical_ids)), f"{law}: {group} has {have}")
        else:
            self._require(len(alive) == allocation.size, f"{law}: {group} has {len(alive)}, declared {allocation.size}")
        for machine in alive:
            version = machine.tags.get(values.TAG_HASH)
            self._require(version == declared.hash, f"{law}: {machine.id} of {group} is of version {version}")

    def _require(self, holds: bool, law: str) -> None:
        if not holds and not self.verdict and not self._timeline.over:
            # No exception: the code under test would take it for a fault of the provider.
            self.verdict = f"{law} (at {self.now:.1f} s)"


def _is_quorum(declared: Group) -> bool:
    return b'"Quorum":true' in bytes(declared.properties.flavor.properties).replace(b" ", b"")


def _ceiling(declaration: DeclarationRecord, group: GroupID) -> int:
    declared = declaration.groups.get(group)
    if declared is None:
        return 0
    allocation = declared.properties.allocation
    if allocation.logical_ids is not None:
        return len(allocation.logical_ids) + 2  # undeclared instances may still be being destroyed
    size = allocation.size or 0
    return size + amount(declared.properties.updating.max_surge, size)
