"""The view: everything a plan may know about a group, reduced from observations and nothing else.

A listing is taken as it is, but absence is not death (laws 2 and 4): an instance that was seen and is not listed any
more stays in the view, bearing its slot, until there is evidence. The provider says terminated, `inspect` says None,
or, for a provider that cannot be asked, at least two complete listings leave it out, one begun after its promised lag.
In the same way an intent stays until its instance is listed, or surely was never made.

The view lives as long as its controller and is changed between two plans only; a plan reads it.
Times are the event loop's, in seconds.
"""

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from infrakit.group.ledger import Intent
from infrakit.group.membership import Membership
from infrakit.spi import values
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import Description, Health, HealthReport, InstanceID, LogicalID, Slot, State, Token

VERDICT_AGE_S_MAX = 60.0  # an older verdict is no verdict
REPEAT_S = 30.0  # an end that was acknowledged and is still not seen after the lag and this is asked for again
TROUBLE_AGE_S = 600.0  # a failure so long ago is forgotten
STABLE_S = 60.0  # healthy for so long: earlier failures of its slot are forgotten


class Member(msgspec.Struct, kw_only=True):
    """One instance that carries the group's tag, and what is remembered of it."""

    description: Description
    id: InstanceID
    slot: Slot | None
    logical_id: LogicalID | None
    hash: str
    token: Token | None
    born_at: float  # when its creation was asked for, or when it was first seen
    state: State = State.UNSPECIFIED
    serial: int = 0  # of the last listing that showed it
    missing_since: float | None = None
    missed: int = 0  # complete listings without it
    report: HealthReport | None = None
    judged_at: float = -math.inf
    healthy_since: float | None = None
    unhealthy_since: float | None = None
    leaving: str = ""  # draining, destroying, destroyed: we are ending it
    left_at: float = -math.inf  # when its end was acknowledged, or the order to end it went without an answer
    is_self: bool = False

    def health(self, now: float) -> Health:
        """The verdict, unless it is too old or the instance is not to be seen."""
        if self.report is None or self.missing_since is not None or now - self.judged_at > VERDICT_AGE_S_MAX:
            return Health.UNKNOWN
        return self.report.health


class Pending(msgspec.Struct, kw_only=True):
    """An unresolved intent, and what is known of its call."""

    intent: Intent
    phase: str  # recorded (not called yet), calling, created (acknowledged), refused, or unknown
    unsure: bool = False  # a call for it ended without an answer, so that it may have been made
    instance: InstanceID | None = None
    ended_at: float  # when the last call ended, or when the intent was found
    retry_at: float = 0.0
    error: str = ""
    asked: int = 0  # calls made by this process
    refused: bool = False  # the last call was refused; an earlier one may have made it
    lapsed: bool = False  # every listing and inspection that could show it has not


class Trouble(msgspec.Struct, kw_only=True):
    """Repeated failures of a slot or of an instance's destruction, and when to try again."""

    count: int
    retry_at: float
    why: str
    hash: str = ""


class GroupView(msgspec.Struct, kw_only=True):
    """One group as observed."""

    group: values.GroupID
    pets: bool
    lag_s: float  # the provider's promise: when a listing surely shows a change
    can_inspect: bool
    now: float = 0.0
    observed_at: float | None = None  # when the last complete listing began
    problem: str = "not observed yet"  # why the newest observation is not complete
    members: dict[InstanceID, Member] = msgspec.field(default_factory=dict)
    pending: dict[Slot, Pending] = msgspec.field(default_factory=dict)
    troubles: dict[str, Trouble] = msgspec.field(default_factory=dict)
    inherited: dict[InstanceID, float] = msgspec.field(
        default_factory=dict
    )  # a predecessor may be ending it: until when
    lapses: dict[Slot, int] = msgspec.field(default_factory=dict)  # intents given up since the slot was last seen
    rolling_to: str = ""  # the version a roll is going to, until it has converged
    membership: Membership | None = None  # None: the flavor keeps no list of members
    revision: int = 0  # grows whenever anything a plan depends on has changed
    serial: int = 0
    listing: Sequence[Description] | None = None

    # -- observations ----------------------------------------------------------------------------------------------

    def failed(self, problem: str, now: float) -> None:
        """The newest observation failed or was incomplete: nothing is concluded from it."""
        self.now = now
        if problem != self.problem:
            self.problem = problem
            self.revision += 1

    def listed(self, listing: Sequence[Description], *, begun_at: float, now: float, wall: float) -> list[Member]:
        """Take a complete listing of the group's instances; return members that appear for the first time."""
        self.now = now
        self.observed_at = begun_at
        if self.problem:
            self.problem = ""
            self.revision += 1
        if listing is self.listing and len(listing) == len(self.members):
            return []  # unchanged, and nobody is missing from it
        self.listing = listing
        self.serial += 1
        new = [m for d in listing if (m := self._take(d, begun_at, wall)) is not None]
        if len(listing) != len(self.members):
            for member in self.members.values():
                if member.serial != self.serial:
                    self._miss(member, begun_at)
        return new

    def _take(self, description: Description, begun_at: float, wall: float) -> Member | None:
        member = self.members.get(description.id)
        if member is not None:
            member.serial = self.serial
            if member.description is not description and member.description != description:
                _read(member, description, pets=self.pets)
                self.revision += 1
            if member.missing_since is not None:
                member.missing_since, member.missed = None, 0
                self.revision += 1
            return None
        if description.state is State.TERMINATED:
            return None
        member = _member(description, pets=self.pets, now=begun_at, wall=wall)
        member.serial = self.serial
        member.leaving = "destroying" if member.id in self.inherited else ""
        self.members[member.id] = member
        self.revision += 1
        return member

    def _miss(self, member: Member, begun_at: float) -> None:
        if member.missing_since is None:
            member.missing_since = begun_at
        member.missed += 1
        self.revision += 1

    def doubtful(self) -> Iterator[InstanceID]:
        """IDs whose life only the provider can tell: not listed any more, or acknowledged and not listed yet."""
        for member in self.members.values():
            if member.missing_since is not None:
                yield member.id
        for pending in self.pending.values():
            if pending.phase == "created" and pending.instance is not None and pending.instance not in self.members:
                yield pending.instance

    def inspected(self, instance: InstanceID, description: Description | None) -> None:
        """The provider answered, with authority, about one instance.

        One that lives and is not listed yet stays an intent: a successor would know of it only by the ledger.
        """
        if description is not None and description.state is not State.TERMINATED:
            return
        member = self.members.get(instance)
        if member is not None:
            member.state = State.TERMINATED
        for pending in self.pending.values():
            if pending.instance == instance:
                pending.lapsed = True
        self.revision += 1

    def gone(self) -> list[Member]:
        """Remove and return the members with evidence of death."""
        dead = [m for m in self.members.values() if m.state is State.TERMINATED or self._absent(m)]
        for member in dead:
            del self.members[member.id]
            self.inherited.pop(member.id, None)
            self.revision += 1
        return dead

    def _absent(self, member: Member) -> bool:
        if member.missing_since is None or self.observed_at is None or self.can_inspect:
            return False
        return member.missed > 1 and self.observed_at - member.missing_since >= self.lag_s

    def judged(self, reports: Mapping[InstanceID, HealthReport], at: float) -> list[Member]:
        """Take verdicts; return the members whose health has changed."""
        changed = []
        for instance, report in reports.items():
            member = self.members.get(instance)
            if member is None or at < member.judged_at:
                continue
            member.judged_at = at
            if member.report is report:
                continue
            before = member.report
            member.report = report
            if before is None or before.health is not report.health:
                member.healthy_since = at if report.health is Health.HEALTHY else None
                member.unhealthy_since = at if report.health is Health.UNHEALTHY else None
                changed.append(member)
                self.revision += 1
        return changed

    def doubt(self, member: Member, now: float) -> None:
        """Something may have been done to it: what was known of its health until now does not count any more."""
        member.report, member.judged_at = None, now
        member.healthy_since = member.unhealthy_since = None
        self.revision += 1

    # -- the list of members that a flavor keeps -------------------------------------------------------------------

    def not_dead(self) -> list[Description]:
        """Every member, and everything that may have been made and is not listed yet: its ID is empty if nobody knows.

        A list of members is compared with it; what a provider is late to show must not look dead there.
        """
        tag = values.TAG_LOGICAL_ID if self.pets else values.TAG_SLOT
        settled = set(self.settled())
        return [m.description for m in self.members.values()] + [
            Description(
                id=pending.instance or InstanceID(""),
                logical_id=LogicalID(slot) if self.pets else None,
                tags={values.TAG_GROUP: self.group, values.TAG_TOKEN: pending.intent.token, tag: slot},
                state=State.PENDING,
            )
            for slot, pending in self.pending.items()
            if slot not in settled
        ]

    def keeps_list(self, *, kept: bool) -> None:
        """Whether the flavor keeps a list of members."""
        if kept != (self.membership is not None):
            self.membership = Membership() if kept else None
            self.revision += 1

    def needs(self, answer: Sequence[MembershipChange] | str, asked_at: float) -> None:
        """Take what the list needs, or in words why that is not known."""
        if self.membership is None:
            return
        if isinstance(answer, str):
            self.revision += self.membership.unanswered(answer)
        else:
            self.revision += self.membership.answered(answer, asked_at)

    def change_begins(self, change: MembershipChange) -> None:
        """The list of members is being changed."""
        if self.membership is not None:
            self.membership.changing = change
            self.revision += 1

    def change_ends(self, now: float, *, done: bool) -> None:
        """The change under way is over."""
        if self.membership is not None:
            self.membership.ended(now, done=done)
            self.revision += 1

    # -- intents ---------------------------------------------------------------------------------------------------

    def settled(self) -> list[Slot]:
        """Slots whose intent is resolved because its instance is in the view."""
        if not self.pending:
            return []
        tokens = {m.token for m in self.members.values() if m.token is not None}
        ids = self.members
        return [s for s, p in self.pending.items() if p.intent.token in tokens or p.instance in ids]

    def lapse(self) -> None:
        """Mark the intents that surely made nothing that lives, because listings that would show it have not.

        One whose creation was acknowledged needs a proof that listings work: one that shows a later creation. Where the
        provider can be asked about it, nothing else counts.
        """
        if not self.pending or self.observed_at is None:
            return
        proof = max((m.born_at for m in self.members.values() if m.missing_since is None), default=-math.inf)
        for pending in self.pending.values():
            silent = pending.phase == "created" and not self.can_inspect and proof > pending.ended_at
            awaited = pending.phase == "unknown" or silent
            if awaited and not pending.lapsed and self.observed_at >= pending.ended_at + self.lag_s:
                pending.lapsed = True
                self.revision += 1

    def forgive(self) -> None:
        """An operator says go: what is backed off is tried now, and what no listing shows is given up."""
        self.troubles.clear()
        self.lapses.clear()
        for pending in self.pending.values():
            overdue = self.observed_at is not None and self.observed_at >= pending.ended_at + self.lag_s
            if pending.phase in {"created", "unknown"} and overdue:
                pending.lapsed = True
        self.revision += 1

    def reinterpret(self, *, pets: bool) -> None:
        """The group has turned from cattle into pets, or back: slots mean something else from now on."""
        self.pets = pets
        for member in self.members.values():
            _read(member, member.description, pets=pets)
        self.troubles.clear()
        self.revision += 1

    def intend(self, intents: Mapping[Slot, Intent], *, fresh: bool, doubt_s: float = 0.0) -> None:
        """Take intents from the ledger: fresh ones of our own, or those found there, whose outcome nobody knows.

        A predecessor's call may be carried out for `doubt_s` to come, though nobody waits for its answer.
        """
        for slot, intent in intents.items():
            phase = "recorded" if fresh else "unknown"
            self.pending[slot] = Pending(intent=intent, phase=phase, unsure=not fresh, ended_at=self.now + doubt_s)
        self.revision += bool(intents)

    def inherit(self, ending: Iterable[InstanceID], *, until: float) -> None:
        """A predecessor has recorded that it ends these, and may have asked for it: until then, they are leaving."""
        self.inherited.update(dict.fromkeys(ending, until))

    def outlive(self, *, at_once: bool) -> None:
        """What a predecessor was ending and still lives when no call of it can have any effect is ours to judge.

        `at_once` where the whole group is destroyed: the call is repeated without waiting, which changes nothing if the
        predecessor's is still carried out.
        """
        if not self.inherited or self.observed_at is None:
            return
        for instance in [i for i, until in self.inherited.items() if at_once or self.observed_at > until]:
            del self.inherited[instance]
            member = self.members.get(instance)
            if member is not None and member.leaving == "destroying":
                member.leaving = ""
                self.doubt(member, self.now)

    def stumble(self, key: str, why: str, *, delay_s: float, version: str = "") -> None:
        """Remember a failure of a slot, or of ending an instance, and leave it alone for a while."""
        trouble = self.troubles.get(key)
        count = trouble.count + 1 if trouble is not None and trouble.hash == version else 1
        self.troubles[key] = Trouble(count=count, retry_at=self.now + delay_s, why=why, hash=version)
        self.revision += 1

    def recover(self) -> None:
        """Forget the failures of slots whose instance has been healthy for long, and of instances that are gone."""
        if not self.troubles:
            return
        steady = {
            m.slot
            for m in self.members.values()
            if m.slot in self.troubles and m.healthy_since is not None and self.now - m.healthy_since >= STABLE_S
        }
        gone = {
            key for key, t in self.troubles.items() if key not in self.members and self.now - t.retry_at > TROUBLE_AGE_S
        }
        for key in steady | gone:
            if key is not None:
                del self.troubles[key]

    def revive(self) -> None:
        """An end that was acknowledged and has not happened long after must be asked for again."""
        for member in self.members.values():
            if (
                member.leaving == "destroyed"
                and member.missing_since is None
                and member.state is not State.STOPPING
                and self.observed_at is not None
                and self.observed_at > member.left_at + self.lag_s + REPEAT_S
            ):
                member.leaving = ""
                self.revision += 1

    def clear(self, slots: Sequence[Slot]) -> None:
        """Forget intents that the ledger has cleared."""
        for slot in slots:
            if self.pending.pop(slot, None) is not None:
                self.revision += 1


def _member(description: Description, *, pets: bool, now: float, wall: float) -> Member:
    tags = description.tags or {}
    created = _seconds(tags.get(values.TAG_CREATED))
    age_s = max(0.0, wall - created) if created is not None else 0.0
    token = tags.get(values.TAG_TOKEN)
    member = Member(
        description=description,
        id=description.id,
        slot=None,
        logical_id=None,
        hash="",
        token=Token(token) if token else None,
        born_at=now - age_s,
    )
    _read(member, description, pets=pets)
    return member


def _read(member: Member, description: Description, *, pets: bool) -> None:
    tags = description.tags or {}
    logical_id = description.logical_id or tags.get(values.TAG_LOGICAL_ID) or None
    slot = logical_id if pets else tags.get(values.TAG_SLOT)
    member.description = description
    member.logical_id = LogicalID(logical_id) if logical_id else None
    member.slot = Slot(slot) if slot else None
    member.hash = tags.get(values.TAG_HASH, "")
    member.state = description.state or State.UNSPECIFIED


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
