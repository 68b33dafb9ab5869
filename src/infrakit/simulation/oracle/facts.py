"""The facts that the oracle judges by: which instances lived when, and what was declared when.

Nothing here comes from the code under test: instances are those of the simulated cloud, whatever its listings show,
and declarations are the durable documents. Health is the actual one.
"""

import collections
import json
import math
from collections.abc import Iterable, Iterator

from infrakit.instances.simulator import Machine
from infrakit.simulation.cloud import FOREIGN
from infrakit.simulation.loops import Timeline
from infrakit.simulation.oracle import exceptions
from infrakit.simulation.oracle.declared import Declared, DeclaredGroup
from infrakit.spi import values
from infrakit.spi.values import Attachment, GroupID, InstanceID

RECORD_AGE_S = 200.0  # a call may take 120 s and was planned one cycle earlier
KNOWN_S = 60.0  # what is true for that long is known to a controller that acts


class Life:
    """One life of an instance, from its start to its termination. Its tags are those that it was created with."""

    def __init__(self, machine: Machine, began_at: float, *, requested: bool, revived: bool = False) -> None:
        self.machine = machine
        self.id = machine.id
        self.began_at = began_at
        self.requested = requested  # by a call of InfraKit
        self.revived = revived  # another party runs it again
        self.group = GroupID(machine.tags.get(values.TAG_GROUP, ""))
        self.token = machine.token
        self.logical_id = machine.logical_id
        self.place = machine.logical_id or machine.tags.get(values.TAG_SLOT)  # where its replacement appears
        properties = json.loads(bytes(machine.properties)) or {}
        self.version: int | None = properties.get("version")  # None: another party has created it
        self.stopping_at: float | None = None  # since when it shuts down, and still has its logical ID

    @property
    def is_foreign(self) -> bool:
        """Whether a second installation on the account has created it."""
        return self.token.startswith(f"{FOREIGN}/")

    @property
    def lives(self) -> bool:
        return self.machine.lives

    @property
    def volumes(self) -> tuple[Attachment, ...]:
        """What it holds now: another party may have detached something."""
        return self.machine.attachments

    @property
    def shown_from(self) -> float:
        """From when on every listing shows it; one that another party runs again was unknown before that."""
        return max(self.machine.listed_at, self.began_at)

    def is_healthy(self, at: float) -> bool:
        """Whether it is or was healthy then, and not shutting down."""
        machine = self.machine
        works = machine.healthy_at <= at < min(machine.unhealthy_at, machine.terminated_at)
        return works and (self.stopping_at is None or at < self.stopping_at)

    def was_healthy_between(self, since: float, now: float) -> bool:
        """Whether it has been healthy at any time since then, until now."""
        machine = self.machine
        end = min(machine.unhealthy_at, machine.terminated_at, self.stopping_at or machine.terminated_at)
        return machine.healthy_at < end and machine.healthy_at <= now and end > since


class Facts:
    """The history of one run, and the first broken law."""

    def __init__(self, timeline: Timeline, faults: Iterable[str] = ()) -> None:
        self.verdict = ""
        self.lives: dict[InstanceID, Life] = {}  # the instances that live now, by ID
        self.history: collections.deque[tuple[float, Declared]] = collections.deque([(0.0, Declared())])
        self.excused: dict[str, set[str]] = {}  # by law, how it failed as the table permits
        self.disturbed_at: dict[GroupID, float] = {}  # when an instance last terminated or was created by others
        self.led_since = 0.0  # when the newest epoch was acquired
        self.forgotten_at = 0.0  # when the store, or the provider, last began to show again what it had lost
        self._outages: list[tuple[float, float]] = []  # in which the provider did not answer
        self._copies = 0  # of the store, which nodes use beside it
        self._forked = (0.0, -1.0)  # from when until when a leader may follow one of them
        self._allowed = exceptions.allowed(faults)
        self._timeline = timeline

    @property
    def now(self) -> float:
        return self._timeline.now

    def require(self, holds: object, law: str, what: str) -> None:
        """Record a broken law, unless the table of exceptions permits it in this world.

        No exception is raised: the code under test would take it for a fault of the provider.
        """
        if holds or self.verdict or self._timeline.over:
            return
        self.excused.setdefault(law, set()).add(what)  # a retry of the same call is no second failure
        if len(self.excused[law]) > self._allowed.get(law, 0):
            self.verdict = f"{law}: {what} (at {self.now:.1f} s)"

    def permit(self, fault: str) -> None:
        """A fault takes effect that the table names: the laws may fail as far as it permits."""
        for law, times in exceptions.of(fault).items():
            self._allowed[law] = self._allowed.get(law, 0) + times

    # -- declarations ----------------------------------------------------------------------------------------------

    @property
    def declared(self) -> Declared:
        """The newest durable declaration."""
        return self.history[-1][1]

    @property
    def declared_at(self) -> float:
        return self.history[-1][0]

    def declare(self, declared: Declared) -> None:
        """Record a declaration that is durable now."""
        self.history.append((self.now, declared))

    def since(self, at: float) -> Iterator[Declared]:
        """All declarations that were in effect at any time since then, the newest first."""
        for began_at, declared in reversed(self.history):
            yield declared
            if began_at <= at:
                return

    def group_since(self, group: GroupID, at: float) -> list[DeclaredGroup]:
        """All declarations of a group that were in effect at any time since then, the newest first."""
        return [found for each in self.since(at) if (found := each.groups.get(group)) is not None]

    def managed_since(self, group: GroupID) -> float:
        """When the group was declared last while it was not: what it did before is forgotten."""
        since, was_managed = 0.0, False
        for at, declared in self.history:
            is_managed = group in declared.groups
            if is_managed and not was_managed:
                since = at
            was_managed = is_managed
        return since

    def in_effect(self, group: GroupID) -> list[DeclaredGroup]:
        """The declarations of a group that a leader may follow now: of several stores, what any of them may contain."""
        began_at, until = self._forked
        return self.group_since(group, began_at if self.now <= until else self.now)

    def is_being_destroyed(self, group: GroupID) -> bool:
        """Whether a declaration that is in effect requests its destruction."""
        return any(each.destroying for each in self.in_effect(group))

    def forked(self) -> None:
        """A node begins to use a copy of the store."""
        began_at, until = self._forked
        self._forked = (began_at if self.now <= until else self.now, math.inf)
        self._copies += 1

    @property
    def stores(self) -> int:
        """How many stores replicas use now: one, and its copies."""
        return 1 + self._copies

    def rejoined(self, bound_s: float) -> None:
        """A node uses the store again, instead of a copy; for `bound_s`, calls may still follow the copy."""
        self._copies -= 1
        if not self._copies:
            self._forked = (self._forked[0], self.now + bound_s)

    def forget(self, until: float = 0.0) -> None:
        """The store has lost its newest documents, or the provider lists nothing for a while: members are new then."""
        self.forgotten_at = max(self.forgotten_at, self.now, until)

    def outage(self, until: float) -> None:
        """The provider does not answer until then."""
        self._outages.append((self.now, until))

    def observed_from(self, at: float) -> float:
        """When what is true from that time on was observable: after an outage that began before it was known."""
        for began_at, until in self._outages:
            if began_at < at + KNOWN_S and at < until:
                at = until
        return at

    # -- instances -------------------------------------------------------------------------------------------------

    def of_group(self, group: GroupID) -> list[Life]:
        """The instances with the group's tag that live now, without those of a second installation."""
        return [life for life in self.lives.values() if life.group == group and not life.is_foreign]

    def is_calm(self, group: GroupID) -> bool:
        """Whether nothing has happened to the group that a controller need not know yet."""
        before = self.now - KNOWN_S
        if self.disturbed_at.get(group, -RECORD_AGE_S) >= before:
            return False
        if self.now <= self._forked[1]:  # several declarations are in effect
            return self.declared_at < before
        declared = [each.groups.get(group) for each in self.since(before)]
        return all(each == declared[0] for each in declared)  # changes of other groups do not concern it
