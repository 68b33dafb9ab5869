"""Laws 4 and 5: what InfraKit destroys, counted from what really lived and was healthy.

Limits follow from the declaration as it is documented, not from the code under test. A controller knows health late, so
a member counts as healthy if it was so within `KNOWN_S`, and as unhealthy only after that time.
"""

from typing import NamedTuple

from infrakit.simulation.oracle import exceptions
from infrakit.simulation.oracle.declared import DeclaredGroup
from infrakit.simulation.oracle.facts import KNOWN_S, RECORD_AGE_S, Facts, Life
from infrakit.spi import values
from infrakit.spi.values import GroupID, InstanceID

PROVEN_S = 60.0  # of health, after which a start is proven
SLOWEST = 0.95  # of the seconds of a replica, whose clock may run faster


class Begun(NamedTuple):
    """A destruction that has begun: its call has not returned, or may still take effect."""

    life: Life
    caller: str
    was_healthy: bool


class Losses:
    """The destructions that InfraKit has begun, and the healthy members that it has destroyed in a row."""

    def __init__(self, facts: Facts, *, sure_health: bool) -> None:
        self.begun: dict[InstanceID, Begun] = {}
        self.unanswered: set[tuple[str, InstanceID]] = set()  # destroy calls, by their caller
        self.requested = 0  # destructions of healthy members
        self._facts = facts
        self._sure_health = sure_health  # the flavor never answers that it does not know
        self._row: dict[GroupID, dict[InstanceID, Life]] = {}
        self._ended: dict[InstanceID, Life] = {}  # what has terminated, and InfraKit has neither destroyed nor replaced

    def destroying(self, caller: str, life: Life | None, instance: InstanceID, *, voters: set[InstanceID]) -> None:
        """Check a destruction when its call leaves the process of its caller; `voters`: those that the flavor lists."""
        facts = self._facts
        self.unanswered.add((caller, instance))
        if life is None:
            return  # it has terminated already
        recent = facts.group_since(life.group, facts.now - RECORD_AGE_S)
        facts.require(recent, exceptions.NOT_OURS, f"{instance} of {life.group or 'no group'} is destroyed")
        facts.require(not life.is_foreign, exceptions.NOT_OURS, f"{instance} is of another cluster")
        self.settle()
        again = instance in self.begun
        was_healthy = life.is_healthy(facts.now) and life.is_healthy(facts.now - KNOWN_S)
        if not again:
            self.begun[instance] = Begun(life, caller, was_healthy)
        group = facts.declared.groups.get(life.group)
        if again or group is None or facts.is_being_destroyed(life.group):
            return
        is_requested = any(instance in each.evicted for each in recent)
        if was_healthy:
            self.requested += 1
            self._row.setdefault(life.group, {})[instance] = life
            self._check_pace(life, group, recent)
            if not is_requested:
                self._check_row(life, group, recent)
        if not is_requested and (was_healthy or self._boots(life, group)):
            self._check_needed(life, group, was_healthy=was_healthy)
        if not is_requested and not self._has_another_bearer(life):
            self._check_breaker(life, group, recent)
        if group.quorum:
            self._check_majority(life, group, voters)

    def own_node(self, life: Life) -> None:
        """Check the destruction of the node of the caller: the others go first."""
        facts, group = self._facts, self._facts.declared.groups.get(life.group)
        if group is None or life.id in group.evicted or not life.is_healthy(facts.now):
            return
        others = [e for e in facts.of_group(life.group) if e is not life and e.id not in self.begun]
        others = [e for e in others if e.shown_from + KNOWN_S < facts.now]
        if not group.destroying:
            others = [e for e in others if e.is_healthy(facts.now) and e.version not in (None, group.version)]
            if life.version in (None, group.version) or life.logical_id not in (group.ids or ()):
                return
        left = ", ".join(each.id for each in others)
        facts.require(
            not others, exceptions.OWN_NODE, f"{life.id} is the node of the caller, and is destroyed before {left}"
        )

    def answered(self, caller: str, instance: InstanceID, *, pending: bool) -> None:
        """A destroy call has returned; `pending`: it may still take effect."""
        self.unanswered.discard((caller, instance))
        begun = self.begun.get(instance)
        if begun is not None and begun.caller == caller and not pending:
            self.not_pending(instance)

    def not_pending(self, instance: InstanceID) -> None:
        """A late call has had its effect, or never will."""
        begun = self.begun.get(instance)
        if begun is not None and begun.life.lives and begun.life.stopping_at is None:
            del self.begun[instance]

    def ended(self, life: Life) -> None:
        """An instance has terminated: if no destruction of it has begun, that need not be known at once."""
        begun = self.begun.get(life.id)
        if (begun is None or begun.life is not life) and not life.is_foreign:
            self._ended[life.id] = life

    def replaced(self, by: Life) -> None:
        """InfraKit has created an instance: it knows that the one before has terminated."""
        before = [i for i, each in self._ended.items() if (each.group, each.place) == (by.group, by.place)]
        for instance in before:
            del self._ended[instance]

    def restored(self) -> None:
        """The store has lost its newest documents: what was lost in a row is not known any more."""
        self._row.clear()

    def settle(self) -> None:
        """Drop what has terminated, and the rows that healthy members have ended; called before a new declaration."""
        facts = self._facts
        self.begun = {i: each for i, each in self.begun.items() if facts.lives.get(i) is each.life}  # not revived
        for name, row in self._row.items():
            group = facts.declared.groups.get(name)
            healthy = self._healthy(name)
            if group is None or (group.ids is None and len(healthy) >= group.size):
                row.clear()
                continue
            have = {life.place for life in healthy}
            missed = None if group.ids is None or len(have) < group.size else group.ids
            for instance, life in list(row.items()):
                survived = life.lives and instance not in self.begun
                is_missed = missed is None or life.place in missed
                if survived or not is_missed or (life.place is not None and life.place in have):
                    del row[instance]

    def _healthy(self, name: GroupID) -> list[Life]:
        now = self._facts.now
        return [each for each in self._facts.of_group(name) if each.is_healthy(now) and each.id not in self.begun]

    def _has_another_bearer(self, life: Life) -> bool:
        """Whether another member with its logical ID is healthy, or was lately: then no identity is lost with it."""
        if life.logical_id is None:
            return False
        now = self._facts.now
        others = [e for e in self._facts.of_group(life.group) if e is not life and e.id not in self.begun]
        return any(e.logical_id == life.logical_id and e.was_healthy_between(now - KNOWN_S, now) for e in others)

    # -- the limits ------------------------------------------------------------------------------------------------

    def _check_row(self, life: Life, group: DeclaredGroup, recent: list[DeclaredGroup]) -> None:
        healthy = self._healthy(life.group)
        if group.ids is not None:
            have = {each.logical_id for each in healthy if each.logical_id in group.ids}
            row = [each for each in self._row[life.group].values() if each.logical_id in group.ids]
            short = group.size - len(have)
        else:
            row, short = list(self._row[life.group].values()), group.size - len(healthy)
        lost, limit = min(len(row), short), max(1, *(each.max_unhealthy for each in recent))
        self._facts.require(
            lost <= limit,
            exceptions.IN_A_ROW,
            f"{life.id} is the {lost}. healthy member of {life.group} that is destroyed without a healthy one in its "
            f"place ({', '.join(each.id for each in row)}), MaxUnhealthy is {limit}",
        )

    def _check_pace(self, life: Life, group: DeclaredGroup, recent: list[DeclaredGroup]) -> None:
        at_once = [i for i, each in self.begun.items() if each.life.group == life.group and each.was_healthy]
        limit = 1 if group.quorum else max(1, *(each.max_unhealthy for each in recent))
        self._facts.require(
            len(at_once) <= limit,
            exceptions.AT_ONCE,
            f"{', '.join(at_once)} of {life.group} are being destroyed at once, at most {limit} may be",
        )

    def _check_needed(self, life: Life, group: DeclaredGroup, *, was_healthy: bool) -> None:
        """A declared and up-to-date member that is healthy or boots is never destroyed, unless there are too many."""
        facts = self._facts
        if not facts.is_calm(life.group) or not self._is_current(life, group):
            return
        if group.ids is not None:
            is_needed = life.logical_id in group.ids
        else:
            is_needed = len(facts.of_group(life.group)) <= group.size
        state = "healthy" if was_healthy else "booting"
        facts.require(
            not is_needed,
            exceptions.NEEDED,
            f"{life.id} of {life.group} is destroyed while {state}, current and declared",
        )

    def _boots(self, life: Life, group: DeclaredGroup) -> bool:
        """Whether it is within its boot grace, by the clock of any replica: then it may be unhealthy."""
        boots_until = life.began_at + group.boot_grace_s * SLOWEST
        is_single = not (life.revived or self._has_another_bearer(life))
        return self._facts.now < boots_until and life.stopping_at is None and is_single

    def _is_current(self, life: Life, group: DeclaredGroup) -> bool:
        """Whether it is of the declared version. Another party's instance is of the one that it was adopted with."""
        if life.version is not None:
            return life.version == group.version
        return all(each.version == group.version for each in self._facts.group_since(life.group, life.began_at))

    def _check_majority(self, life: Life, group: DeclaredGroup, voters: set[InstanceID]) -> None:
        """Of the listed voters, or else of all members that exist, a majority stays healthy.

        One that has terminated within `KNOWN_S` counts as healthy, unless InfraKit has destroyed or replaced it.
        """
        facts, now = self._facts, self._facts.now
        if not life.is_healthy(now):
            return
        ended = {i: each for i, each in self._ended.items() if each.group == life.group}
        known = ended | {each.id: each for each in facts.of_group(life.group)}
        if voters:
            total, members = len(voters), [known[i] for i in voters if i in known and i != life.id]
            if life.id not in voters:
                return
        else:
            size = min((each.size for each in facts.in_effect(life.group)), default=group.size)
            shown = [each for each in facts.of_group(life.group) if values.TAG_GROUP in each.machine.tags]
            total = max(size, len({each.place or each.id for each in shown}))
            members = [each for each in known.values() if each is not life]
            if self._has_another_bearer(life):
                return
        if total <= 2:  # it can lose none: its members are replaced one at a time
            return
        healthy = [e for e in members if e.was_healthy_between(now - KNOWN_S, now) and e.id not in self.begun]
        left = len({e.id if voters else e.place or e.id for e in healthy})
        facts.require(
            left >= total // 2 + 1,
            exceptions.MAJORITY,
            f"{life.id} is destroyed, which leaves {left} of {total} voters of {life.group} healthy",
        )

    def _check_breaker(self, life: Life, group: DeclaredGroup, recent: list[DeclaredGroup]) -> None:
        """More than MaxUnhealthy members have been unhealthy for long: the cause is not in them."""
        if not self._sure_health or any(each.resumed != group.resumed or each.despite_unhealthy for each in recent):
            return
        now = self._facts.now
        begun = self.begun.keys() - {life.id}
        members = [e for e in self._facts.of_group(life.group) if e.id not in begun]
        unhealthy = [e for e in members if self._is_known_unhealthy(e, group, now)]
        limit = max(each.max_unhealthy for each in recent)
        self._facts.require(
            len(unhealthy) <= limit,
            exceptions.BREAKER,
            f"{life.id} is destroyed while {', '.join(e.id for e in unhealthy)} of {life.group} are unhealthy, "
            f"MaxUnhealthy is {limit}",
        )

    def _is_known_unhealthy(self, life: Life, group: DeclaredGroup, now: float) -> bool:
        machine = life.machine
        if life.stopping_at is not None or life.is_healthy(now):
            return False
        seen_at = self._seen_at(life)
        since = max(machine.unhealthy_at, seen_at) if now >= machine.unhealthy_at else seen_at
        return self._facts.observed_from(since) + group.boot_grace_s + group.unhealthy_after_s + KNOWN_S < now

    def _seen_at(self, life: Life) -> float:
        """When the leader saw it first: each new leader anew, unless the census contains that its start was proven."""
        facts, machine = self._facts, life.machine
        seen_at = max(life.began_at, facts.managed_since(life.group), facts.forgotten_at)
        healthy_s = min(machine.unhealthy_at, facts.now) - max(machine.healthy_at, seen_at)
        return seen_at if healthy_s > PROVEN_S + KNOWN_S else max(seen_at, facts.led_since)
