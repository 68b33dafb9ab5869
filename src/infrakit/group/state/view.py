"""The view of one group: the state that its plans are based on, reduced from observations.

A missing instance is not a terminated one (laws 2 and 4). An instance that was listed before and is missing now remains
in the view, and holds its slot, until there is evidence of its termination: the provider reports it terminated,
`inspect` returns None, or, for a provider that cannot inspect, at least two complete listings omit it, one of them
started after the promised lag. Likewise, an intent remains until its instance is listed, or certainly does not exist.

The view exists as long as its controller. It changes between plans only; the planner reads it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from infrakit.group.ledger import Intent
from infrakit.group.state import backoff, matching
from infrakit.group.state.backoff import Backoff, BackoffPolicy, replacement_key
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.ended import Ended
from infrakit.group.state.known import Known
from infrakit.group.state.member import Leaving, Member, discovered
from infrakit.group.state.membership import Membership
from infrakit.group.state.revision import Revision
from infrakit.group.state.versions import Versions
from infrakit.spi import values
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import Attachment, Description, HealthReport, InstanceID, LogicalID, Slot, State

REPEAT_S = 30.0  # after the lag: an acknowledged destruction without effect is requested again
EMPTY_S = 2.0  # and the promised lag: between two empty listings that prove that a destroyed group has no instance


class GroupView(msgspec.Struct, kw_only=True):
    """One group as observed. Attributes are read freely; they change through the methods only."""

    group: values.GroupID
    pets: bool
    declared: frozenset[LogicalID] = frozenset()  # those of pets
    lag_s: float  # the lag that the provider promises: after it, every listing shows a change
    can_inspect: bool
    is_self: Callable[[Member], bool] = lambda _member: False  # this controller runs on it
    version: str = ""  # the hash that new instances are created with
    policy: BackoffPolicy = BackoffPolicy(first_s=5.0, longest_s=300.0)
    now: float = 0.0
    observed_at: float | None = None  # loop time at which the last complete listing started
    empty_since: float | None = None  # loop time of the first of consecutive listings without an instance
    problem: str = "not observed yet"  # why the newest observation is not complete
    members: dict[InstanceID, Member] = msgspec.field(default_factory=dict)
    pending: dict[Slot, Creation] = msgspec.field(default_factory=dict)
    backoffs: dict[str, Backoff] = msgspec.field(default_factory=dict)  # by slot, instance or membership change
    inherited: dict[InstanceID, float] = msgspec.field(default_factory=dict)  # until when earlier calls may destroy it
    ended: Ended = msgspec.field(default_factory=Ended)
    absences: dict[Slot, int] = msgspec.field(default_factory=dict)  # consecutive creations presumed absent
    acknowledged: dict[InstanceID, Slot] = msgspec.field(default_factory=dict)  # IDs returned for pending creations
    # What the pets of the declared version must hold; empty: not known, or nothing.
    attachments: Mapping[LogicalID, tuple[Attachment, ...]] = msgspec.field(default_factory=dict)
    attachments_of: str = ""  # the version that they are declared in; empty: not known
    attachments_before: dict[LogicalID, tuple[Attachment, ...]] = msgspec.field(default_factory=dict)  # in earlier ones
    tags_broken: str = ""  # why no tag proves a version, until an operator resumes the group; empty: tags are kept
    tags_broken_by: frozenset[InstanceID] = frozenset()  # the instances that showed it
    rolling_to: str = ""  # the version of the rolling update in progress; empty: none
    known: Known = msgspec.field(default_factory=Known)  # of the previous leader
    versions: Versions = msgspec.field(default_factory=Versions)
    membership: Membership | None = None  # None: the flavor has no member list
    changes: Revision = msgspec.field(default_factory=Revision)
    serial: int = 0
    replaced: list[Member] = msgspec.field(default_factory=list)  # whose ID the newest listing shows as another's
    _listed_members: int = 0  # by the newest listing
    listing: Sequence[Description] | None = None

    @property
    def revision(self) -> int:
        """A counter that increases whenever something that a plan depends on changes."""
        return self.changes.value

    # -- the declaration -------------------------------------------------------------------------------------------

    def declare(self, *, pets: bool, declared: frozenset[LogicalID], version: str, policy: BackoffPolicy) -> None:
        """Adopt a new declaration or new commands. What the members are depends on what is declared."""
        if pets != self.pets:
            self.backoffs.clear()
        if (pets, declared) != (self.pets, self.declared):
            self.pets, self.declared = pets, declared
            for member in self.members.values():
                member.read_again(self._names)
        if version != self.version:
            for creation in self.pending.values():
                creation.retry_now()
        self.version, self.policy = version, policy
        self.absences.clear()
        self.changes.bump()

    def attach(self, declared: Mapping[LogicalID, tuple[Attachment, ...]], version: str) -> None:
        """Set the attachments that the pets of the declared version must hold."""
        if (declared, version) != (self.attachments, self.attachments_of):
            self.attachments_before |= self.attachments
            self.attachments, self.attachments_of = declared, version
            self.changes.bump()

    def rolls_to(self, version: str) -> None:
        """Record that a rolling update to that version has started; empty: that it has converged."""
        self.rolling_to = version
        self.changes.bump()

    def invalidate_plan(self) -> None:
        """Invalidate the plan, whose actions may not have been started, so that a new one is made."""
        self.changes.bump()

    # -- observations ----------------------------------------------------------------------------------------------

    def failed(self, problem: str, now: float) -> None:
        """Record that the newest observation failed or was incomplete, so that no plan is based on it."""
        self.now = now
        if problem != self.problem:
            self.problem = problem
            self.changes.bump()

    def listed(self, listing: Sequence[Description], *, begun_at: float, now: float, wall: float) -> list[Member]:
        """Update the view from a complete listing of the group's instances; return the new members."""
        self.now = now
        self.observed_at = begun_at
        if self.problem:
            self.problem = ""
            self.changes.bump()
        if listing is self.listing and self.is_complete and self.known.is_settled:
            return []  # unchanged, and no member is missing from it
        self.listing = listing
        self.serial += 1
        new = [m for d in listing if (m := self._listed(d, begun_at, wall)) is not None]
        if not self.known.is_settled:
            self._compare_with_known(begun_at, wall)
        listed = (member for member in self.members.values() if member.serial == self.serial)
        self._listed_members = sum(member.state is not State.TERMINATED for member in listed)  # those are removed soon
        if not self.is_complete:
            for member in self.members.values():
                if member.serial != self.serial:
                    member.not_listed(begun_at)
        return new

    def _compare_with_known(self, begun_at: float, wall: float) -> None:
        for omitted in self.known.compare(
            self.members,
            group=self.group,
            declared=self._names,
            version=self.version,
            creating=self.pending,
            begun_at=begun_at,
            proof_s=max(self.lag_s, EMPTY_S),
        ):
            self._discover(omitted, begun_at, wall)
        self.changes.bump()

    @property
    def _names(self) -> frozenset[LogicalID] | None:
        return self.declared if self.pets else None

    def disown(self, others: Iterable[Description]) -> None:
        """Drop members that are listed as instances of other clusters, because their lost tokens are shown again."""
        for each in others:
            member = self.members.get(each.id)
            if member is not None and member.is_incarnation(each):
                del self.members[each.id]
                self.inherited.pop(each.id, None)
                self.changes.bump()

    def is_proven_empty(self) -> bool:
        """Whether two complete listings, further apart than the promised lag, show that nothing is left.

        One listing is no proof: a new leader may get its first one before the provider shows everything again.
        """
        if self.members or self.pending or self.problem or self.observed_at is None or not self.known.is_settled:
            self.empty_since = None
            return False
        if self.empty_since is None:
            self.empty_since = self.observed_at
        return self.observed_at - self.empty_since >= max(self.lag_s, EMPTY_S)

    @property
    def is_complete(self) -> bool:
        """Whether the newest listing showed every member. The lengths prove nothing: it may show other instances."""
        return self._listed_members == len(self.members)

    def _listed(self, description: Description, begun_at: float, wall: float) -> Member | None:
        member = self.members.get(description.id)
        if member is not None:
            if member.listed_as is description or member.is_incarnation(description):
                is_new = not member.serial
                member.listed(description, serial=self.serial, declared=self._names, at=self.now)
                return member if is_new else None  # else the previous leader listed it, this one never did
            self.replaced.append(member)  # the provider has used its ID again, so it has terminated
            self.inherited.pop(member.id, None)
        if description.state is State.TERMINATED:
            return None
        self.ended.forget_reused(description)
        still_leaving = self.ended.is_still_leaving(description, begun_at=begun_at, lag_s=self.lag_s)
        member = self._discover(description, begun_at, wall)
        member.serial, member.listed_at = self.serial, self.now
        if still_leaving:
            member.leaving, member.left_at = Leaving.DESTROYED, begun_at
            return None  # not a new member: its termination is reported already
        member.has_returned = self.ended.forget(member.id)  # an external process has restarted it
        return member

    def _discover(self, description: Description, begun_at: float, wall: float) -> Member:
        leaving = Leaving.DESTROYING if description.id in self.inherited else Leaving.NO
        member = discovered(description, self._names, now=begun_at, wall=wall, changes=self.changes, leaving=leaving)
        member.identify(is_self=self.is_self(member))
        self.members[member.id] = member
        return member

    def unconfirmed(self) -> Iterator[InstanceID]:
        """Yield the IDs to inspect: missing from the listing, or returned for creations and not listed as theirs."""
        for member in self.members.values():
            if member.missing_since is not None:
                yield member.id
        yield from matching.unlisted(self.pending, self.members)

    def inspected(self, instance: InstanceID, description: Description | None) -> None:
        """Update the view from an inspection, which is authoritative; None: the instance does not exist.

        A live instance that is not listed yet remains an intent: a new leader could learn of it from the ledger only.
        """
        live = description if description is not None and description.state is not State.TERMINATED else None
        member = self.members.get(instance)
        if member is not None and (live is None or not member.is_incarnation(live)):  # or its ID is used again
            member.terminated(vanished=description is None)
        for creation in self.pending.values():
            if creation.instance != instance:
                continue
            if live is not None and matching.is_another(live, creation, self.group):
                creation.inspected_as_another()
                self.acknowledged.pop(instance, None)
            else:
                creation.presume_absent() if live is None else creation.inspected_alive()

    def terminated(self) -> list[Member]:
        """Return the members whose termination is confirmed."""
        ended, members = State.TERMINATED, self.members.values()
        return [m for m in members if m.state is ended or (m.missing_since is not None and self._is_absent(m))]

    def pop_terminated(self) -> list[Member]:
        """Remove and return the members whose termination is confirmed."""
        terminated = self.terminated()
        self.ended.expire(self.now)
        for member in terminated:
            member.ended_before = self.ended.add(member.id, member.token, self.now)
            if member.state is not State.TERMINATED:
                member.terminated(vanished=True)
            del self.members[member.id]
            self.inherited.pop(member.id, None)
            self.changes.bump()
        if self.replaced:
            terminated, self.replaced = [*self.replaced, *terminated], []
        if terminated and self.pending:
            for slot in matching.settled(self.pending, {m.id: m for m in terminated}):
                self.pending[slot].instance_terminated()
        return terminated

    def _is_absent(self, member: Member) -> bool:
        if member.missing_since is None or self.observed_at is None or self.can_inspect:
            return False
        return member.missed > 1 and self.observed_at - member.missing_since >= self.lag_s

    def judged(self, reports: Mapping[InstanceID, HealthReport], at: float) -> list[Member]:
        """Record health reports requested at loop time `at`; return the members whose health has changed."""
        changed = []
        for instance, report in reports.items():
            member = self.members.get(instance)
            if member is None or at < member.judged_at:
                continue
            if member.report is report:  # a shared report has not changed
                member.judged_at = at
            elif member.judged(report, at):
                changed.append(member)
        return changed

    # -- the flavor's member list ----------------------------------------------------------------------------------

    def possibly_live(self) -> list[Description]:
        """Return all members, and all instances that may have been created and are not listed yet.

        An unknown ID is empty. The flavor compares its member list with this: an instance that the provider lists late
        must not be taken for a terminated one.
        """
        settled = set(self.settled())
        unlisted = (
            creation.described(slot, group=self.group, pets=self.pets)
            for slot, creation in self.pending.items()
            if slot not in settled
        )
        return [*(member.description for member in self.members.values()), *unlisted]

    def track_member_list(self, *, exists: bool) -> None:
        """Start or stop tracking the member list, which exists if the flavor has one."""
        if exists != (self.membership is not None):
            self.membership = Membership() if exists else None
            self.changes.bump()

    def needs(self, answer: Sequence[MembershipChange] | str, requested_at: float) -> None:
        """Record the changes that the member list needs, or a text: the reason why they are unknown."""
        if self.membership is not None and self.membership.observed(answer, requested_at):
            self.changes.bump()

    def change_started(self, change: MembershipChange) -> None:
        """Record that a change of the member list starts."""
        if self.membership is not None:
            self.membership.changing = change
            self.changes.bump()

    def change_ended(self, now: float, *, done: bool) -> None:
        """Record that the change in progress has ended."""
        if self.membership is not None:
            self.membership.ended(now, done=done)
            self.changes.bump()

    # -- pending creations -----------------------------------------------------------------------------------------

    def intend(self, intents: Mapping[Slot, Intent], *, fresh: bool, effect_s: float = 0.0) -> None:
        """Add intents of the ledger: `fresh` ones that were just recorded, or found ones, whose outcome is unknown.

        A call of the previous leader may take effect for another `effect_s`, although its process no longer waits.
        """
        for slot, intent in intents.items():
            self.pending[slot] = Creation(
                intent=intent,
                phase=Phase.RECORDED if fresh else Phase.UNKNOWN,
                uncertain=not fresh,
                ended_at=self.now + effect_s,
                changes=self.changes,
            )
            self.changes.bump()

    def settled(self) -> Mapping[Slot, float]:
        """Return the slots whose intent is resolved, because its instance is a member, or was one and has terminated.

        With each slot, the loop time from which on every listing shows the instance: a new leader that reads listings
        only would not see it before. An intent with a member that may be its instance does not count as a second one.
        """
        if not self.pending:
            return {}
        ended = {slot: -math.inf for slot, creation in self.pending.items() if creation.terminated}
        listed = {slot: m.listed_at for slot, m in matching.settled(self.pending, self.members).items()}
        listed |= matching.presumed(self.pending, self.members, {*ended, *listed})
        return ended | {slot: at + self.lag_s for slot, at in listed.items()}

    def acknowledge(self, slot: Slot, creation: Creation, instance: InstanceID, now: float) -> str:
        """Record the ID that the provider has returned for a creation.

        Returns the reason why it cannot be the ID of a new instance; then its call is still open. Otherwise empty.
        """
        if not instance:
            return "the provider returned no ID"
        if whose := matching.owner(instance, slot, creation, self.members, self.acknowledged):
            creation.answered_as_another()
            return f"the provider returned the ID {instance}, which is already that of {whose}"
        creation.created(instance, now)
        if self.pending.get(slot) is creation:
            self.acknowledged[instance] = slot
        return ""

    def settle(self, slots: Iterable[Slot]) -> list[tuple[Slot, Creation]]:
        """Remove intents that the ledger has cleared; return those that created no instance."""
        failures = []
        members = {m.token: m for m in self.members.values() if m.token is not None}
        for slot in slots:
            creation = self.pending.pop(slot, None)
            if creation is None:
                continue
            if creation.instance is not None:
                self.acknowledged.pop(creation.instance, None)
            member = members.get(creation.intent.token)
            if member is not None and creation.provider_error:
                member.start_failed(creation.provider_error)
            absent = creation.presumed_absent or creation.phase is Phase.REFUSED
            listed = member is not None or creation.terminated or creation.instance in self.members or not absent
            if creation.presumed_absent and creation.phase is Phase.UNKNOWN and not creation.terminated:
                self.absences[slot] = self.absences.get(slot, 0) + 1
            elif listed:
                self.absences.pop(slot, None)
            if not listed:
                failures.append((slot, creation))
                if creation.instance is not None:
                    self.ended.add(creation.instance, creation.intent.token, self.now)
            self.changes.bump()
        return failures

    def start_failed(self, slot: Slot, creation: Creation) -> None:
        """Record the provider's error of a call whose instance was listed before the call returned."""
        why = creation.provider_error
        member = matching.listed(creation, self.members)
        if member is not None:
            member.start_failed(why)
            return
        backoff = self.backoffs.get(slot)  # it has terminated already: the reason is completed
        if backoff is not None and backoff.version == creation.version:
            self.backoffs[slot] = msgspec.structs.replace(backoff, why=f"{backoff.why}; its creation failed: {why}")
            self.changes.bump()

    def presume_absent(self) -> None:
        """Mark creations that no listing has shown within the promised lag: their instances are presumed not to exist.

        For an acknowledged creation, a listing must also show a later creation, which shows that listings are updated.
        If the provider can inspect instances, only an inspection counts for it.
        """
        if not self.pending or self.observed_at is None:
            return
        settled = self.settled()
        unlisted = {slot: creation for slot, creation in self.pending.items() if slot not in settled}
        for creation in matching.overdue(
            unlisted, self.members, listed_until=self.observed_at - self.lag_s, can_inspect=self.can_inspect
        ):
            creation.presume_absent()

    # -- destructions ----------------------------------------------------------------------------------------------

    def inherit_destroys(self, instances: Iterable[InstanceID], *, until: float) -> None:
        """Add instances that the previous leader was destroying; its calls may take effect until loop time `until`."""
        self.inherited.update(dict.fromkeys(instances, until))

    def expire_inherited(self, *, at_once: bool) -> None:
        """Release instances that the previous leader was destroying, once its calls can no longer take effect.

        `at_once`: do not wait, because the whole group is being destroyed, and a second destroy call does no harm.
        """
        if not self.inherited or self.observed_at is None:
            return
        for instance in [i for i, until in self.inherited.items() if at_once or self.observed_at > until]:
            del self.inherited[instance]
            member = self.members.get(instance)
            if member is not None:
                member.inherited_destroy_expired(self.now)

    def retry_destroys(self) -> None:
        """Allow another call for acknowledged destructions that had no effect within the lag and `REPEAT_S`."""
        if self.observed_at is None:
            return
        for member in self.members.values():
            if member.has_outlived_destroy(self.observed_at - self.lag_s - REPEAT_S):
                member.retry_destroy()
                self.ended.forget(member.id)

    # -- back-off --------------------------------------------------------------------------------------------------

    def record_failure(self, key: str, why: str) -> None:
        """Record a failure of an instance or a membership change, to be retried with exponential back-off."""
        self._record(key, why, version="", without_delay=0)

    def record_slot_failure(self, slot: Slot, why: str, *, version: str, first_without_delay: bool) -> None:
        """Record that a start of that version failed in a slot. `first_without_delay`: the first retry is immediate."""
        self._record(slot, why, version=version, without_delay=int(first_without_delay))

    def record_termination(self, member: Member, why: str, *, requested: bool) -> None:
        """Record that an instance has terminated.

        This is a failure of its start, unless the start was proven before, or this controller has requested it.
        """
        if requested or member.slot is None:
            return
        if member.is_proven:
            self._reset(member.slot, member.hash)
        else:
            self.record_slot_failure(member.slot, why, version=member.hash, first_without_delay=True)

    def record_replacement(self, member: Member, why: str) -> None:
        """Record that healing destroys a member.

        If its start was never proven, the next replacement in the slot is delayed, because this one may not help
        either. The creation that follows is not: the destruction was requested, and is no evidence about a start.
        """
        if member.slot is not None and not member.is_proven:
            self._record(replacement_key(member.slot), why, version=member.hash, without_delay=1)

    def _reset(self, slot: Slot, version: str) -> None:
        if backoff.forget(self.backoffs, slot, version):
            self.changes.bump()

    def _record(self, key: str, why: str, *, version: str, without_delay: int) -> None:
        before = self.backoffs.get(key)
        self.backoffs[key] = self.policy.failed(before, why, version, now=self.now, without_delay=without_delay)
        self.changes.bump()

    def expire_backoffs(self) -> None:
        """Remove failures whose version has now been healthy in the slot for `STABLE_S`, and those that are too old."""
        if not self.backoffs:
            return
        for slot, version in backoff.proven(self.backoffs, self.members.values()):
            self._reset(slot, version)
        backoff.expire(self.backoffs, self.members, self.now)

    def reset_backoffs(self) -> None:
        """Retry everything now, as an operator requests; presume overdue creations absent that no inspection shows."""
        self.backoffs.clear()
        self.absences.clear()
        for creation in self.pending.values():
            overdue = self.observed_at is not None and self.observed_at >= creation.ended_at + self.lag_s
            if creation.phase in (Phase.CREATED, Phase.UNKNOWN) and overdue and not creation.inspected:
                creation.presume_absent()
        self.changes.bump()
