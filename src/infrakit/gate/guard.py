"""An independent limit on what a group may lose and create, whatever the reason (law 5).

The guard knows no plan. It is given what is observed before each plan, and the calls that begin; the gate asks it
before each call. Its memory is what was healthy once, what is being destroyed, and what was created within an hour;
the census hands it to the next leader.

- *Losses*: a member that was proven healthy, and is now unhealthy, missing, destroyed or terminated, is lost until its
  slot, or as many members as are declared, are proven healthy. No destruction makes the losses exceed `max_lost`. So
  replacing stops when it does not help, and an update, scaling in and healing share one limit. Nor is a member
  destroyed whose replacement must not be created.
- *Pace*: at most `max_lost` members that are not known to be unhealthy are being destroyed at once, in a quorum one.
- *Disappearance*: when more than `max_lost` members have vanished, and the provider shows none that it showed before,
  nothing is created (`gate/vanished.py`). The lowest `max_lost` since the first of them vanished counts.
- *Creations*: only as many as an hour permits (`gate/creations.py`).
- *Votes*: no destruction leaves less than a majority of the listed voters of a quorum healthy (`gate/voters.py`). If
  its flavor does not list them, every instance that may exist may be a voter, and a majority of those counts.

A drain may take long, so the member is judged again when the destruction that follows begins.

What an operator has requested for single instances is refused for the last reason only, and is counted. Pure: times are
seconds of the loop.
"""

import itertools
import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import msgspec

from infrakit.gate.census import History, pack, unpack
from infrakit.gate.creations import Creations
from infrakit.gate.vanished import Vanished
from infrakit.gate.voters import NO_MARGIN, VoterList
from infrakit.spi.flavor import Voter
from infrakit.spi.quorum import majority
from infrakit.spi.values import InstanceID, Slot

FACTS_MAX = 3


class Seen(NamedTuple):
    """One member as observed now."""

    instance: InstanceID
    slot: Slot | None
    healthy: bool | None  # None: its health is unknown, which changes nothing
    is_listed: bool = True
    may_end: bool = False  # a destruction was requested that may still take effect
    judged_at: float = 0.0  # when the newest health report was requested
    listed_at: float = -math.inf  # when it was listed for the first time
    token: str = ""  # of its creation: one machine that is listed under two IDs has one


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the declaration and the commands of operators permit."""

    size: int = 0
    max_lost: int = 1
    quorum: bool = False
    version: str = ""
    resumed: str = ""  # when an operator last resumed the group
    destroying: bool = False  # an operator has requested the destruction of the whole group
    requested: frozenset[InstanceID] = frozenset()  # instances whose destruction an operator has requested
    slots: frozenset[Slot] | None = None  # of the declared pets; None: cattle, of which each replaces any other
    votes: int = 0  # instances of a quorum that may exist, and so may be on its member list
    joining: frozenset[InstanceID] = frozenset()  # members whose vote is not proven: the member list needs a change


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
        self._healthy: dict[InstanceID, Slot] = {}  # proven healthy, and not being destroyed
        self._bearers: dict[Slot, int] = {}  # how many of the healthy have that slot
        self._more_bearers = 0  # healthy cattle beyond the first of a slot, each machine once
        self._unhealthy: set[InstanceID] = set()
        self._lost: dict[Slot, str] = {}  # slots that were healthy, with what happened to them
        self._vanished = Vanished()
        self._ending: dict[InstanceID, Slot | None] = {}  # being destroyed; the slot of those that were healthy
        self._gentle: set[InstanceID] = set()  # those of them that were not known to be unhealthy
        self._again: dict[Slot, float] = {}  # slots that must be proven healthy by a report requested after that time
        self._creations = Creations()
        self._recalled = frozenset[Slot]()  # healthy ones of the previous leader, until the first observation
        self._has_observed = False
        self._voters: VoterList | None = None  # None: the flavor does not list them

    # -- the census ------------------------------------------------------------------------------------------------

    def history(self, now: float, recorded: Container[str] = ()) -> History:
        """Return what the next leader has to know. It counts the creations of `recorded` tokens from the ledger."""
        return History(
            resumed=self._limits.resumed,
            healthy=pack(self._recalled or self._bearers),
            lost=pack(self._lost),
            **self._vanished.history(),
            **self._creations.history(now, recorded),
        )

    def recall(self, history: History, now: float) -> None:
        """Adopt what the previous leader has recorded; called once, before anything is declared or observed."""
        self._limits = Limits(size=history.size, version=history.version, resumed=history.resumed)
        self._has_observed = bool(history.version)
        self._recalled = frozenset(unpack(history.healthy))
        self._lost = {slot: f"{slot}, lost before this leader took over" for slot in unpack(history.lost)}
        self._vanished.recall(history, now)
        self._creations.recall(history, now)

    # -- what is declared and observed -----------------------------------------------------------------------------

    def declare(self, limits: Limits, now: float) -> None:
        """Adopt the limits of a declaration or of commands."""
        before, self._limits = self._limits, limits
        self._vanished.declare(limits.max_lost)
        self._creations.declare(limits.size, limits.version, now, permits=self._has_observed)
        self._end_losses()
        if self._has_observed and limits.resumed not in ("", before.resumed):
            self.resume()

    def resume(self) -> None:
        """Permit as many creations as in a new window, also for vanished members: an operator resumes the group."""
        self._creations.resume()
        self._vanished.end()

    def observe(self, members: Iterable[Seen], now: float) -> None:
        """Record all members of a complete observation; one that is not among them has terminated."""
        healthy, unhealthy, present = dict[InstanceID, Slot](), set[InstanceID](), dict[InstanceID, Seen]()
        oldest = math.inf
        members = self._recognised(members)
        for seen in members:
            present[seen.instance] = seen
            if seen.is_listed:
                oldest = min(oldest, seen.listed_at)
            if self._is_ending(seen, now):
                continue
            slot = seen.slot or Slot(seen.instance)
            is_proven = seen.healthy and seen.judged_at > self._again.get(slot, -math.inf)
            if seen.is_listed and (is_proven or (seen.healthy is None and seen.instance in self._healthy)):
                healthy[seen.instance] = slot
            elif seen.healthy is False:
                unhealthy.add(seen.instance)
        for instance in self._ending.keys() - present.keys():
            self._ended(instance)
        self._replace(healthy, unhealthy, present)
        self._end_losses()
        self._vanished.listed({each.instance: each.slot for each in present.values()}, oldest, now)
        if not self._has_observed:
            self._has_observed = True
            self._creations.allow(max(0, self._limits.size - len(present)), now)

    def _is_ending(self, seen: Seen, now: float) -> bool:
        """Whether its destruction may still take effect; if the previous leader has requested it, it is counted now."""
        if not seen.may_end:
            self._ended(seen.instance)
        elif seen.instance not in self._ending:
            if seen.healthy is False:
                self._unhealthy.add(seen.instance)
            self.destroying(seen.instance, now)
        return seen.may_end

    def _recognised(self, members: Iterable[Seen]) -> Iterable[Seen]:
        """Count members that were healthy under the previous leader as healthy, until their health is reported."""
        if not self._recalled:
            return members
        members = list(members)
        self._healthy = {seen.instance: seen.slot for seen in members if seen.slot in self._recalled}
        self._bearers = dict(Counter(self._healthy.values()))
        self._lost |= {slot: f"{slot} is missing" for slot in self._recalled if slot not in self._bearers}
        self._recalled = frozenset()
        return members

    def _replace(
        self, healthy: dict[InstanceID, Slot], unhealthy: set[InstanceID], present: dict[InstanceID, Seen]
    ) -> None:
        before, self._healthy, self._unhealthy = self._healthy, healthy, unhealthy
        self._bearers = {}
        for slot in healthy.values():
            self._bearers[slot] = self._bearers.get(slot, 0) + 1
        for instance, slot in before.items():
            if instance not in healthy and slot not in self._bearers:
                seen = present.get(instance)
                how = "has terminated" if seen is None else "is unhealthy" if seen.is_listed else "is missing"
                self._lost[slot] = f"{instance} {how}"
        self._more_bearers = 0
        if self._limits.slots is None and len(healthy) > len(self._bearers):
            machines = {present[instance].token or instance for instance in healthy}
            self._more_bearers = max(0, len(machines) - len(self._bearers))
        if self._again:
            self._again = {slot: at for slot, at in self._again.items() if slot not in self._bearers}

    @property
    def _bearers_count(self) -> int:
        """How many members are proven healthy: pets by their slots, cattle by the machines, which may share one."""
        return len(self._bearers) + self._more_bearers

    def _end_losses(self) -> None:
        """Forget the losses of slots with a healthy member; if enough have one, all but those of declared pets."""
        if not self._lost:
            return
        is_whole, declared = self._bearers_count >= self._limits.size, self._limits.slots or frozenset()
        self._lost = {
            slot: what
            for slot, what in self._lost.items()
            if slot not in self._bearers and (slot in declared or not is_whole)
        }

    def vanished(self, instance: InstanceID, slot: Slot | None, now: float) -> None:
        """Record a member whose absence is the only evidence of its termination."""
        if instance in self._ending:
            return
        self._vanished.add(
            slot or Slot(instance),
            instance,
            now,
            limit=max(1, self._limits.max_lost * self._creations.smallest // max(1, self._limits.size)),
        )

    def same_account(self, now: float, *, lag_s: float, identified: bool) -> bool:
        """Believe the provider if it is the right one: what it has not shown for longer than its lag has terminated.

        It is `identified` by its account, or by vanished members that it lists again. At once that proves nothing: the
        first answer after a restart or an outage may be incomplete. True: that has changed.
        """
        return self._vanished.same_account(now, lag_s=lag_s, identified=identified)

    def list_voters(self, answer: Sequence[Voter] | str, requested_at: float) -> bool:
        """Record the voters of the member list, or why they are unknown. True: that has changed."""
        self._voters = self._voters or VoterList()
        return self._voters.listed(answer, requested_at)

    def can_lose(self, now: float) -> str:
        """What the quorum can still lose by its member list, as a sentence; empty if the flavor does not list it."""
        return self._voters.summary(self._healthy, now) if self._voters is not None else ""

    # -- calls -----------------------------------------------------------------------------------------------------

    def destroying(self, instance: InstanceID, now: float, *, drains: bool = False) -> None:
        """Record that the destruction of a member begins, or a drain or release before it, which ends nothing yet."""
        if instance not in self._ending:
            slot = self._ending[instance] = self._healthy.pop(instance, None)
            if instance not in self._unhealthy:
                self._gentle.add(instance)
            if slot is not None:
                self._take(instance, slot, 1)
        slot = self._spare(instance)
        if slot is not None and not drains:  # perhaps both were one: the other one must be proven healthy again
            self._again[slot] = now
            self._healthy = {other: each for other, each in self._healthy.items() if each != slot}
            self._take(instance, slot, self._bearers[slot])

    def _take(self, instance: InstanceID, slot: Slot, number: int) -> None:
        """Count that many healthy members of a slot no more; it is lost with the last one."""
        self._bearers[slot] -= number
        self._more_bearers = max(0, self._more_bearers - number + (not self._bearers[slot]))
        if self._bearers[slot]:
            return
        del self._bearers[slot]
        if self._bearers_count < self._limits.size or slot in (self._limits.slots or ()):
            self._lost[slot] = f"{instance} destroyed"

    def _spare(self, instance: InstanceID) -> Slot | None:
        """Return the slot of a healthy member that is being destroyed, if another healthy one has it."""
        slot = self._ending.get(instance)
        return slot if slot in self._bearers else None

    def not_destroyed(self, instance: InstanceID) -> None:
        """Record that the destruction certainly had no effect."""
        slot = self._ending.get(instance)
        self._ended(instance)
        if slot is not None and instance not in self._unhealthy and slot not in self._again:
            self._healthy[instance] = slot
            self._bearers[slot] = self._bearers.get(slot, 0) + 1
            self._lost.pop(slot, None)

    def _ended(self, instance: InstanceID) -> None:
        self._ending.pop(instance, None)
        self._gentle.discard(instance)

    def inherit(self, token: str, now: float) -> None:
        """Count a creation that the previous leader has recorded, and perhaps not requested, because it was refused."""
        self._creations.inherit(token, now)

    def creating(self, token: str, now: float) -> bool:
        """Record that a creation begins; one token counts once. False: it is counted already."""
        return self._creations.begin(token, now)

    def not_created(self, token: str) -> None:
        """Record that a creation certainly had no effect."""
        self._creations.withdraw(token)

    # -- decisions -------------------------------------------------------------------------------------------------

    def refuse_destroy(self, instance: InstanceID, now: float) -> str:
        """The reason why the destruction of a member must not begin now; empty if it may."""
        return "" if self._unlimited else self._refuse_destroy(instance, more=0, now=now)

    def refuse_creation(self, token: str, now: float) -> str:
        """The reason why a creation must not begin now; empty if it may."""
        if self._unlimited:
            return ""
        left = self._creations_left(now)
        return "" if left > 0 or self._creations.is_repeated(token, left) else self._why_no_more(now)

    def review(self, destroys: Sequence[InstanceID], now: float) -> Verdict:
        """Decide about all actions of a plan, as if they began one after the other."""
        refused: dict[InstanceID, str] = {}
        more = 0
        for instance in destroys:
            why = self._refuse_destroy(instance, more=more, now=now)
            if why:
                refused[instance] = why
            elif instance not in self._unhealthy and instance not in self._ending:
                more += 1
        left = max(0, self._creations_left(now))
        until = self._creations.more_at(now)
        return Verdict(destroys=refused, creations=left, why_no_more=self._why_no_more(now), until=until)

    def _refuse_destroy(self, instance: InstanceID, *, more: int, now: float) -> str:
        """Decide about one destruction after `more` further ones of healthy members.

        One that is being drained counts already, but others may have been lost since its drain began.
        """
        limits = self._limits
        if why := self._refuse_vote(instance, now):
            return why
        ending = len(self._gentle) + more
        at_once = 1 if limits.quorum else limits.max_lost
        if instance not in self._unhealthy and instance not in self._ending and ending >= at_once:
            return f"{_members(ending)} being destroyed already, at most {at_once} at once"
        if limits.destroying or instance in limits.requested:
            return ""
        # A surplus is no loss. Of what is missing, only what was lost counts: the rest has never existed.
        short, slot = limits.size - self._bearers_count, self._healthy.get(instance, self._spare(instance))
        lost = max(0, min(len(self._lost), short) + more + (slot is not None), self._lost_pets(slot, more))
        if lost <= limits.max_lost:
            return self._why_no_more(now) if lost and self._creations_left(now) <= 0 else ""
        shown = ", ".join(itertools.islice(self._lost.values(), FACTS_MAX))
        return (
            f"{lost} of {limits.size} members would be lost and not proven healthy again; MaxUnhealthy is "
            f"{limits.max_lost}{f' (lost now: {shown})' if shown else ''}"
        )

    def _lost_pets(self, slot: Slot | None, more: int) -> int:
        """How many declared pets would be lost: a member that is not declared any more is no substitute for one.

        Nor is it one of them: it may have to leave before the lost one can be created again.
        """
        slots = self._limits.slots
        if slots is None:
            return 0
        lost = len(slots & self._lost.keys())
        if not lost:
            return 0
        return lost + more + (slot in slots)

    def _refuse_vote(self, instance: InstanceID, now: float) -> str:
        if not self._limits.quorum or self._limits.destroying:
            return ""
        ended = instance in self._ending
        is_unhealthy = instance not in self._gentle if ended else instance in self._unhealthy
        if self._voters is not None:
            return self._voters.refuse(instance, is_unhealthy=is_unhealthy, healthy=self._healthy, now=now)
        total = max(self._limits.size, self._limits.votes)
        voting = self._healthy.keys() - self._limits.joining - {instance}
        left = len({self._healthy[each] for each in voting})
        if is_unhealthy or total <= NO_MARGIN or left >= majority(total):
            return ""
        return f"{left} of {total} members would be left proven healthy, and the quorum needs {majority(total)}"

    def _creations_left(self, now: float) -> int:
        left = self._creations.left(now)
        return min(0, left) if self.why_unproven else left

    @property
    def why_unproven(self) -> str:
        """Why the absence of members proves nothing: too many have vanished; empty if it does."""
        if self._vanished.are_believed:
            return ""
        return (
            f"{len(self._vanished)} of {self._limits.size} members have vanished and the provider shows no other "
            "one; wrong credentials, a wrong region or an incomplete listing have the same effect"
        )

    def _why_no_more(self, now: float) -> str:
        return self.why_unproven or self._creations.why_no_more(now)


def _members(number: int) -> str:
    return "1 member is" if number == 1 else f"{number} members are"
