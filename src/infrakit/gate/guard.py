"""An independent limit on what a group may lose and create, whatever the reason (law 5).

The guard knows no plan. It learns what was observed, and which calls have begun; the gate asks it before each call.

- *Losses*: a member that was proven healthy, and is now unhealthy, missing, destroyed or terminated, is lost until its
  slot, or as many members as are declared, are proven healthy. No destruction makes the losses exceed `max_lost`. So
  replacing stops when it does not help, and an update, scaling in and healing share one limit. Nor is a member
  destroyed whose replacement must not be created.
- *Pace*: at most `max_lost` healthy members are being destroyed at once, in a quorum one.
- *Disappearance*: when more than `max_lost` members have vanished and the provider shows no other member, nothing is
  created: wrong credentials, a wrong region or an incomplete listing have the same effect.
- *Creations*: within an hour at most twice the declared size, plus what the group has grown by, plus the size once
  for each new version.

What an operator has requested for single instances is not refused, and is counted. Pure: times are seconds of the loop.
"""

import itertools
from collections.abc import Sequence

import msgspec

from infrakit.spi.values import InstanceID, Slot

WINDOW_S = 3600.0
CREATIONS_MIN = 10  # a group of one that is terminated a few times in an hour is still healed
FACTS_MAX = 3


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the declaration and the commands of operators permit."""

    size: int = 0
    max_lost: int = 1
    quorum: bool = False
    version: str = ""
    destroying: bool = False  # an operator has requested the destruction of the whole group
    requested: frozenset[InstanceID] = frozenset()  # instances whose destruction an operator has requested


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The actions of a plan that the guard refuses."""

    destroys: dict[InstanceID, str]  # with the reason
    creations: int  # how many new ones are permitted
    why_no_more: str = ""
    until: float = 0.0  # when the next one is permitted, if there are too many


class Guard:
    """The history of one group, and the decisions about its next changes."""

    def __init__(self, *, unlimited: bool = False) -> None:
        self._unlimited = unlimited
        self._limits = Limits()
        self._healthy: dict[InstanceID, Slot] = {}  # proven healthy now, and not being destroyed
        self._bearers: dict[Slot, int] = {}  # how many of the healthy have that slot
        self._lost: dict[Slot, str] = {}  # slots that were healthy, with what happened to them
        self._vanished: dict[Slot, InstanceID] = {}  # since the last listing that showed any member
        self._ending: dict[InstanceID, Slot | None] = {}  # being destroyed; the slot of those that were healthy
        self._ending_healthy = 0  # how many of those were healthy
        self._created: dict[str, float] = {}  # by token: when the call began, the oldest first
        self._allowances: list[tuple[float, int]] = []  # further creations, each for one window

    # -- what is declared and observed -----------------------------------------------------------------------------

    def declare(self, limits: Limits, now: float) -> None:
        """Adopt the limits of a new declaration or of new commands."""
        before, self._limits = self._limits, limits
        growth = max(0, limits.size - before.size)
        replaced = limits.size if before.version not in ("", limits.version) else 0
        if growth + replaced:
            self._allowances.append((now, growth + replaced))

    def resume(self) -> None:
        """Permit as many creations as in a new window, also for vanished members: an operator resumes the group."""
        self._created.clear()
        self._vanished.clear()

    def healthy(self, instance: InstanceID, slot: Slot | None) -> None:
        """Record that a member is proven healthy."""
        if instance in self._healthy or instance in self._ending:
            return
        own = slot or Slot(instance)
        self._healthy[instance] = own
        self._bearers[own] = self._bearers.get(own, 0) + 1
        self._lost.pop(own, None)
        if len(self._bearers) >= self._limits.size:
            self._lost.clear()  # the group is whole, whatever slots were lost

    def not_healthy(self, instance: InstanceID, what: str) -> None:
        """Record that a member is not proven healthy any more: unhealthy, unknown or missing."""
        self._lose(instance, what)

    def terminated(self, instance: InstanceID, slot: Slot | None = None, *, vanished: bool = False) -> None:
        """Record that the termination of a member is confirmed. `vanished`: its absence is the only evidence."""
        self._lose(instance, "has vanished" if vanished else "terminated")
        if vanished and instance not in self._ending:
            self._vanished[slot or Slot(instance)] = instance
        self._ended(instance)

    def listed(self, members: int) -> None:
        """Record how many members a complete listing shows: one proves that the others are really missing from it."""
        if members:
            self._vanished.clear()

    def _lose(self, instance: InstanceID, what: str) -> Slot | None:
        slot = self._healthy.pop(instance, None)
        if slot is not None:
            self._bearers[slot] -= 1
            if not self._bearers[slot]:
                del self._bearers[slot]
                self._lost[slot] = f"{instance} {what}"
        return slot

    # -- calls -----------------------------------------------------------------------------------------------------

    def destroying(self, instance: InstanceID) -> None:
        """Record that a member is being drained, released or destroyed."""
        if instance not in self._ending:
            slot = self._ending[instance] = self._lose(instance, "destroyed")
            self._ending_healthy += slot is not None
            for other in [i for i, s in self._healthy.items() if s == slot] if slot in self._bearers else ():
                self._lose(other, "is to be proven healthy again")  # perhaps both were one instance

    def not_destroyed(self, instance: InstanceID) -> None:
        """Record that the destruction certainly had no effect."""
        slot = self._ended(instance)
        if slot is not None:
            self.healthy(instance, slot)

    def destroy_unknown(self, instance: InstanceID) -> None:
        """Record that the outcome is unknown: the member is lost until a new report proves it healthy."""
        self._ended(instance)

    def _ended(self, instance: InstanceID) -> Slot | None:
        slot = self._ending.pop(instance, None)
        self._ending_healthy -= slot is not None
        return slot

    def creating(self, token: str, now: float) -> None:
        """Record that a creation begins; one token counts once."""
        self._created.setdefault(token, now)

    # -- decisions -------------------------------------------------------------------------------------------------

    def refuse_destroy(self, instance: InstanceID, now: float) -> str:
        """The reason why the destruction of a member must not begin now; empty if it may."""
        if self._unlimited or instance in self._ending:
            return ""
        return self._refuse_destroy(instance, more=0, now=now)

    def refuse_creation(self, token: str, now: float) -> str:
        """The reason why a creation must not begin now; empty if it may."""
        if self._unlimited or token in self._created or self._creations_left(now) > 0:
            return ""
        return self._why_no_more()

    def review(self, destroys: Sequence[InstanceID], now: float) -> Verdict:
        """Decide about all actions of a plan, as if they began one after the other."""
        refused: dict[InstanceID, str] = {}
        more = 0
        for instance in destroys:
            why = "" if instance in self._ending else self._refuse_destroy(instance, more=more, now=now)
            if why:
                refused[instance] = why
            elif instance in self._healthy:
                more += 1
        left = max(0, self._creations_left(now))
        oldest = next(iter(self._created.values()), now)
        return Verdict(destroys=refused, creations=left, why_no_more=self._why_no_more(), until=oldest + WINDOW_S)

    def _refuse_destroy(self, instance: InstanceID, *, more: int, now: float) -> str:
        """Decide about one destruction after `more` further ones of healthy members."""
        limits = self._limits
        if limits.destroying or instance in limits.requested:
            return ""
        is_healthy = instance in self._healthy
        ending = self._ending_healthy + more
        at_once = 1 if limits.quorum else limits.max_lost
        if is_healthy and ending >= at_once:
            return f"{_members(ending)} being destroyed already, at most {at_once} at once"
        # A surplus is no loss. Of what is missing, only what was lost counts: the rest has never existed.
        short = limits.size - len(self._bearers)
        lost = max(0, min(len(self._lost), short) + more + is_healthy)
        if lost <= limits.max_lost:
            return self._why_no_more() if lost and self._creations_left(now) <= 0 else ""
        shown = ", ".join(itertools.islice(self._lost.values(), FACTS_MAX))
        return (
            f"{lost} of {limits.size} members would be lost and not proven healthy again; MaxUnhealthy is "
            f"{limits.max_lost}{f' (lost now: {shown})' if shown else ''}"
        )

    def _creations_left(self, now: float) -> int:
        while self._created and now - next(iter(self._created.values())) >= WINDOW_S:
            del self._created[next(iter(self._created))]
        self._allowances = [(at, number) for at, number in self._allowances if now - at < WINDOW_S]
        if len(self._vanished) > self._limits.max_lost:
            return 0
        return self._creations_max - len(self._created)

    @property
    def _creations_max(self) -> int:
        return max(CREATIONS_MIN, 2 * self._limits.size) + sum(number for _, number in self._allowances)

    def _why_no_more(self) -> str:
        if len(self._vanished) > self._limits.max_lost:
            return (
                f"{len(self._vanished)} of {self._limits.size} members have vanished and the provider shows no other "
                "one; wrong credentials, a wrong region or an incomplete listing have the same effect"
            )
        return (
            f"{len(self._created)} instances were created within an hour, at most {self._creations_max} are permitted "
            f"for {self._limits.size} declared ones"
        )


def _members(number: int) -> str:
    return "1 member is" if number == 1 else f"{number} members are"
