"""The view of one group: everything that its plans may know, reduced from observations and nothing else.

A listing is taken as it is, but a missing instance is not a terminated one (laws 2 and 4): an instance that was listed
and is not any more stays in the view, and keeps its slot, until there is evidence. The provider reports it terminated,
`inspect` returns None, or, for a provider that cannot inspect, at least two complete listings leave it out, one begun
after its promised lag. In the same way an intent stays until its instance is listed, or surely was never created.

The view lives as long as its controller and is changed between two plans only; a plan reads it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from infrakit.group.ledger import Intent
from infrakit.group.state.backoff import Backoff, BackoffPolicy
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Leaving, Member, discovered
from infrakit.group.state.membership import Membership
from infrakit.group.state.revision import Revision
from infrakit.spi import values
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import Description, HealthReport, InstanceID, LogicalID, Slot, State

REPEAT_S = 30.0  # an acknowledged destruction that is not seen this long after the lag is requested again
BACKOFF_AGE_S = 600.0  # a failure whose retry was due so long ago no longer counts
STABLE_S = 60.0  # healthy for so long: earlier failures of its slot no longer count


class GroupView(msgspec.Struct, kw_only=True):
    """One group as observed. Attributes are read freely; they change through the methods only."""

    group: values.GroupID
    pets: bool
    lag_s: float  # the provider's promise: when a listing surely shows a change
    can_inspect: bool
    version: str = ""  # the hash that new instances are created with
    policy: BackoffPolicy = BackoffPolicy(first_s=5.0, longest_s=300.0)
    now: float = 0.0
    observed_at: float | None = None  # when the last complete listing began
    problem: str = "not observed yet"  # why the newest observation is not complete
    members: dict[InstanceID, Member] = msgspec.field(default_factory=dict)
    pending: dict[Slot, Creation] = msgspec.field(default_factory=dict)
    backoffs: dict[str, Backoff] = msgspec.field(default_factory=dict)  # by slot, instance or membership change
    inherited: dict[InstanceID, float] = msgspec.field(default_factory=dict)  # destroyed by the previous leader: until
    absences: dict[Slot, int] = msgspec.field(default_factory=dict)  # creations presumed absent since one was listed
    rolling_to: str = ""  # the version of the rolling update under way, until it has converged
    membership: Membership | None = None  # None: the flavor has no member list
    changes: Revision = msgspec.field(default_factory=Revision)
    serial: int = 0
    listing: Sequence[Description] | None = None

    @property
    def revision(self) -> int:
        """Grows whenever anything that a plan depends on has changed."""
        return self.changes.value

    # -- the declaration -------------------------------------------------------------------------------------------

    def declare(self, *, pets: bool, version: str, policy: BackoffPolicy) -> None:
        """A new declaration or new commands. If cattle turned into pets, or back, slots mean something else."""
        if pets != self.pets:
            self.pets = pets
            for member in self.members.values():
                member.read(member.description, pets=pets)
            self.backoffs.clear()
        self.version, self.policy = version, policy
        self.absences.clear()
        self.changes.bump()

    def rollout_started(self, version: str) -> None:
        """A rolling update to that version is under way."""
        self.rolling_to = version
        self.changes.bump()

    def rollout_done(self) -> None:
        """The rolling update has converged."""
        self.rolling_to = ""
        self.changes.bump()

    def outdate(self) -> None:
        """What was planned may not have been started: plan again."""
        self.changes.bump()

    # -- observations ----------------------------------------------------------------------------------------------

    def failed(self, problem: str, now: float) -> None:
        """The newest observation failed or was incomplete: nothing is concluded from it."""
        self.now = now
        if problem != self.problem:
            self.problem = problem
            self.changes.bump()

    def listed(self, listing: Sequence[Description], *, begun_at: float, now: float, wall: float) -> list[Member]:
        """Take a complete listing of the group's instances; return members that appear for the first time."""
        self.now = now
        self.observed_at = begun_at
        if self.problem:
            self.problem = ""
            self.changes.bump()
        if listing is self.listing and len(listing) == len(self.members):
            return []  # unchanged, and no member is missing from it
        self.listing = listing
        self.serial += 1
        new = [m for d in listing if (m := self._listed(d, begun_at, wall)) is not None]
        if len(listing) != len(self.members):
            for member in self.members.values():
                if member.serial != self.serial:
                    member.not_listed(begun_at)
        return new

    def _listed(self, description: Description, begun_at: float, wall: float) -> Member | None:
        member = self.members.get(description.id)
        if member is not None:
            member.listed(description, serial=self.serial, pets=self.pets)
            return None
        if description.state is State.TERMINATED:
            return None
        leaving = Leaving.DESTROYING if description.id in self.inherited else Leaving.NO
        member = discovered(description, pets=self.pets, now=begun_at, wall=wall, changes=self.changes, leaving=leaving)
        member.serial = self.serial
        self.members[member.id] = member
        return member

    def doubtful(self) -> Iterator[InstanceID]:
        """IDs that only an inspection can settle: missing from the listing, or acknowledged and not listed yet."""
        for member in self.members.values():
            if member.missing_since is not None:
                yield member.id
        for creation in self.pending.values():
            if (
                creation.phase is Phase.CREATED
                and creation.instance is not None
                and creation.instance not in self.members
            ):
                yield creation.instance

    def inspected(self, instance: InstanceID, description: Description | None) -> None:
        """The provider answered, with authority, about one instance.

        One that lives and is not listed yet stays an intent: a new leader would know of it by the ledger alone.
        """
        if description is not None and description.state is not State.TERMINATED:
            return
        member = self.members.get(instance)
        if member is not None:
            member.terminated()
        for creation in self.pending.values():
            if creation.instance == instance:
                creation.presume_absent()

    def gone(self) -> list[Member]:
        """Remove and return the members whose termination is confirmed."""
        terminated = [m for m in self.members.values() if m.state is State.TERMINATED or self._is_absent(m)]
        for member in terminated:
            del self.members[member.id]
            self.inherited.pop(member.id, None)
            self.changes.bump()
        return terminated

    def _is_absent(self, member: Member) -> bool:
        if member.missing_since is None or self.observed_at is None or self.can_inspect:
            return False
        return member.missed > 1 and self.observed_at - member.missing_since >= self.lag_s

    def judged(self, reports: Mapping[InstanceID, HealthReport], at: float) -> list[Member]:
        """Take health reports that were requested at that time; return the members whose health has changed."""
        found = [(self.members.get(instance), report) for instance, report in reports.items()]
        return [member for member, report in found if member is not None and member.judged(report, at)]

    # -- the flavor's member list ----------------------------------------------------------------------------------

    def not_dead(self) -> list[Description]:
        """Every member, and whatever may have been created and is not listed yet; its ID is empty if it is not known.

        The flavor compares its member list with it: what a provider is late to list must not look terminated there.
        """
        tag = values.TAG_LOGICAL_ID if self.pets else values.TAG_SLOT
        settled = set(self.settled())
        return [m.description for m in self.members.values()] + [
            Description(
                id=creation.instance or InstanceID(""),
                logical_id=LogicalID(slot) if self.pets else None,
                tags={values.TAG_GROUP: self.group, values.TAG_TOKEN: creation.intent.token, tag: slot},
                state=State.PENDING,
            )
            for slot, creation in self.pending.items()
            if slot not in settled
        ]

    def keeps_list(self, *, kept: bool) -> None:
        """Whether the flavor has a member list."""
        if kept != (self.membership is not None):
            self.membership = Membership() if kept else None
            self.changes.bump()

    def needs(self, answer: Sequence[MembershipChange] | str, asked_at: float) -> None:
        """Take the changes that the member list needs, or in words why they are not known."""
        if self.membership is None:
            return
        if isinstance(answer, str):
            different = self.membership.unanswered(answer)
        else:
            different = self.membership.answered(answer, asked_at)
        if different:
            self.changes.bump()

    def change_begins(self, change: MembershipChange) -> None:
        """The member list is being changed."""
        if self.membership is not None:
            self.membership.changing = change
            self.changes.bump()

    def change_ends(self, now: float, *, done: bool) -> None:
        """The change under way is over."""
        if self.membership is not None:
            self.membership.ended(now, done=done)
            self.changes.bump()

    # -- pending creations -----------------------------------------------------------------------------------------

    def intend(self, intents: Mapping[Slot, Intent], *, fresh: bool, effect_s: float = 0.0) -> None:
        """Take intents from the ledger: fresh ones of our own, or those found there, whose outcome is unknown.

        The previous leader's call may take effect for `effect_s` to come, though no process waits for its answer.
        """
        for slot, intent in intents.items():
            self.pending[slot] = Creation(
                intent=intent,
                phase=Phase.RECORDED if fresh else Phase.UNKNOWN,
                unsure=not fresh,
                ended_at=self.now + effect_s,
                changes=self.changes,
            )
            self.changes.bump()

    def settled(self) -> list[Slot]:
        """Slots whose intent is resolved because its instance is in the view."""
        if not self.pending:
            return []
        tokens = {m.token for m in self.members.values() if m.token is not None}
        ids = self.members
        return [s for s, p in self.pending.items() if p.intent.token in tokens or p.instance in ids]

    def settle(self, slots: Iterable[Slot]) -> list[tuple[Slot, Creation]]:
        """Forget intents that the ledger has cleared; return those that came to nothing."""
        failures = []
        for slot in slots:
            creation = self.pending.pop(slot, None)
            if creation is None:
                continue
            absent = creation.presumed_absent or creation.phase is Phase.REFUSED
            listed = creation.instance in self.members or not absent
            if creation.presumed_absent and creation.phase is Phase.UNKNOWN:
                self.absences[slot] = self.absences.get(slot, 0) + 1
            elif listed:
                self.absences.pop(slot, None)
            if not listed:
                failures.append((slot, creation))
            self.changes.bump()
        return failures

    def presume_absent(self) -> None:
        """Mark the creations that surely left nothing that lives, because listings that would show it have not.

        One that was acknowledged needs a proof that listings work: one that shows a later creation. Where the provider
        can be asked about the instance, nothing else counts.
        """
        if not self.pending or self.observed_at is None:
            return
        proof = max((m.born_at for m in self.members.values() if m.missing_since is None), default=-math.inf)
        for creation in self.pending.values():
            silent = creation.phase is Phase.CREATED and not self.can_inspect and proof > creation.ended_at
            awaited = creation.phase is Phase.UNKNOWN or silent
            if awaited and not creation.presumed_absent and self.observed_at >= creation.ended_at + self.lag_s:
                creation.presume_absent()

    # -- destructions ----------------------------------------------------------------------------------------------

    def inherit_destroys(self, instances: Iterable[InstanceID], *, until: float) -> None:
        """The previous leader has recorded that it destroys these: until then, its calls may take effect."""
        self.inherited.update(dict.fromkeys(instances, until))

    def expire_inherited(self, *, at_once: bool) -> None:
        """What the previous leader was destroying, and still lives when no call of it can have any effect, is ours.

        `at_once` where the whole group is destroyed: the call is repeated without waiting, which changes nothing if the
        previous leader's is still carried out.
        """
        if not self.inherited or self.observed_at is None:
            return
        for instance in [i for i, until in self.inherited.items() if at_once or self.observed_at > until]:
            del self.inherited[instance]
            member = self.members.get(instance)
            if member is not None:
                member.inherited_destroy_expired(self.now)

    def retry_destroys(self) -> None:
        """An acknowledged destruction that has not happened long after is requested again."""
        for member in self.members.values():
            if (
                member.leaving is Leaving.DESTROYED
                and member.missing_since is None
                and member.state is not State.STOPPING
                and self.observed_at is not None
                and self.observed_at > member.left_at + self.lag_s + REPEAT_S
            ):
                member.retry_destroy()

    # -- back-off --------------------------------------------------------------------------------------------------

    def record_failure(self, key: str, why: str) -> None:
        """A failure about an instance or a membership change: retried with exponential back-off."""
        self._record(key, why, version="", free=0)

    def record_slot_failure(self, slot: Slot, why: str, *, first_is_free: bool) -> None:
        """A failure of the declared version in a slot. `first_is_free`: the first replacement does not wait."""
        self._record(slot, why, version=self.version, free=int(first_is_free))

    def _record(self, key: str, why: str, *, version: str, free: int) -> None:
        before = self.backoffs.get(key)
        count = before.count + 1 if before is not None and before.version == version else 1
        delay_s = self.policy.delay_s((before.count if before is not None else 0) + 1 - free)
        self.backoffs[key] = Backoff(count=count, retry_at=self.now + delay_s, why=why, version=version)
        self.changes.bump()

    def expire_backoffs(self) -> None:
        """Forget the failures of slots whose instance has been healthy for long, and of what is no longer there."""
        if not self.backoffs:
            return
        stable = {
            m.slot
            for m in self.members.values()
            if m.slot in self.backoffs and m.healthy_since is not None and self.now - m.healthy_since >= STABLE_S
        }
        old = {
            key
            for key, each in self.backoffs.items()
            if key not in self.members and self.now - each.retry_at > BACKOFF_AGE_S
        }
        for key in stable | old:
            if key is not None:
                del self.backoffs[key]

    def reset_backoffs(self) -> None:
        """An operator resumes the group: retry at once, and presume absent what every listing due has left out."""
        self.backoffs.clear()
        self.absences.clear()
        for creation in self.pending.values():
            overdue = self.observed_at is not None and self.observed_at >= creation.ended_at + self.lag_s
            if creation.phase in (Phase.CREATED, Phase.UNKNOWN) and overdue:
                creation.presume_absent()
        self.changes.bump()
