"""A member: one instance with the group's tag, and its observed state."""

import datetime
import enum
import math
from collections.abc import Collection, Iterable

import msgspec

from infrakit.group.state import identity
from infrakit.group.state.revision import Revision
from infrakit.spi import values
from infrakit.spi.values import (
    Attachment,
    Description,
    Health,
    HealthReport,
    InstanceID,
    LogicalID,
    Slot,
    State,
    Token,
)

VERDICT_AGE_S_MAX = 60.0  # an older health report counts as unknown
STABLE_S = 60.0  # an instance that has been healthy for that long has proven its start


class Leaving(enum.StrEnum):
    """The progress of the destruction of a member; empty if it is not being destroyed."""

    NO = ""
    DRAINING = "draining"  # its workload is being drained; the provider has not been called
    DESTROYING = "destroying"  # the provider has been called, by this leader or the previous one
    DESTROYED = "destroyed"  # the provider has acknowledged it; the listing still shows the instance


class Member(msgspec.Struct, kw_only=True):
    """One instance of the group. Attributes are read freely; they change through the methods only."""

    description: Description  # as it is listed, with the logical ID that the instance has
    id: InstanceID
    slot: Slot | None
    logical_id: LogicalID | None
    hash: str  # its version: as this controller has set it, else as it was listed first
    token: Token | None
    # Loop time at which its creation was requested, as far as wall clocks agree: to show its age, and to rank it.
    created_at: float
    seen_at: float  # loop time at which this controller first saw it: BootGrace counts from here
    listed_hash: str | None = None  # the version that the newest listing shows; None: not listed yet
    hash_set_at: float = math.inf  # loop time at which this controller set its version; infinite: it did not
    labelled_from: str | None = None  # the version that this controller has replaced by a label; None: by none
    # Versions that labels, of this or the previous leader, may still set: until when a listing may first show each.
    labels_requested: dict[str, float] = msgspec.field(default_factory=dict)
    made_from: str = ""  # its member version; empty: not known
    listed_as: Description | None = None  # exactly as the newest listing shows it
    names: tuple[LogicalID, ...] = ()  # of a pet: the logical IDs that it holds if they are declared, its own first
    identified_by: str = ""  # what shows the logical ID of a pet that is listed without it, or with another
    state: State = State.UNSPECIFIED
    listed_at: float = -math.inf  # loop time at which the first listing that showed it was complete
    serial: int = 0  # number of the last listing that showed it
    missing_since: float | None = None
    missed: int = 0  # consecutive complete listings without it
    report: HealthReport | None = None
    judged_at: float = -math.inf  # loop time at which the newest report was requested
    healthy_since: float | None = None
    unhealthy_since: float | None = None
    start_error: str = ""  # the error that the call which created it returned
    was_stable: bool = False  # an earlier period of health lasted `STABLE_S`
    leaving: Leaving = Leaving.NO
    left_at: float = -math.inf  # when its destroy call returned, acknowledged or unknown
    has_returned: bool = False  # its termination was confirmed before, and it is listed again
    vanished: bool = False  # its termination was concluded from its absence: the provider has not reported it
    ended_before: bool = False  # its termination was confirmed before, and a late listing showed it again
    is_self: bool = False  # this controller runs on it
    changes: Revision = msgspec.field(default_factory=Revision)

    def health(self, now: float) -> Health:
        """Return the newest report; UNKNOWN if it is too old, or the instance is missing from the listing."""
        if self.report is None or self.missing_since is not None or now - self.judged_at > VERDICT_AGE_S_MAX:
            return Health.UNKNOWN
        return self.report.health

    @property
    def listed_logical_id(self) -> str:
        """The logical ID that the newest listing shows, which may not be its own; empty: none."""
        listed = self.listed_as or self.description
        return listed.logical_id or (listed.tags or {}).get(values.TAG_LOGICAL_ID, "")

    @property
    def is_proven(self) -> bool:
        """Whether this controller has seen it healthy for `STABLE_S` without interruption, now or earlier."""
        since = self.healthy_since
        return self.was_stable or (since is not None and self.judged_at - since >= STABLE_S)

    def was_requested_to_end(self, now: float, *, effect_s: float) -> bool:
        """Whether this controller may have ended it: its call is in progress, or takes effect for up to `effect_s`."""
        return bool(self.leaving) or now - self.left_at <= effect_s

    def grace_ends_at(self, grace_s: float) -> float:
        """Return the loop time at which its boot grace ends; in the past if its start is proven.

        No wall clock counts here: the clock of the previous leader, which wrote the time of the creation, may differ
        from this one's, and a grace that is too short destroys instances that are still booting.
        """
        return -math.inf if self.is_proven else self.seen_at + grace_s

    def lacks(self, declared: Iterable[Attachment]) -> tuple[Attachment, ...]:
        """Return those of the declared attachments that the provider reports as not attached.

        Empty if the provider reports no attachments, or if the instance is not running: it may hold them later, or need
        them no more. Attachments are the same if their IDs are.
        """
        reported = self.description.attachments
        if not isinstance(reported, tuple) or self.state in (State.PENDING, State.FINISHED):
            return ()
        held = {each.id for each in reported}
        return tuple(each for each in declared if each.id not in held)

    # -- observations ----------------------------------------------------------------------------------------------

    def listed(
        self, description: Description, *, serial: int, declared: Collection[LogicalID] | None, at: float
    ) -> None:
        """Update the member from a listing that contains it, complete at loop time `at`."""
        self.serial = serial
        if self.listed_as is not description and self.listed_as != description:
            self.read(description, declared=declared)
            self._label_listed(at)
            self.changes.bump()
        if self.missing_since is not None:
            self.missing_since, self.missed = None, 0
            self.changes.bump()

    def is_incarnation(self, description: Description) -> bool:
        """Whether a description with its ID is of the same instance. A tag that is missing proves nothing."""
        before, tags = self.description.tags or {}, description.tags or {}
        token = tags.get(values.TAG_TOKEN)
        if self.token and token:
            return self.token == token
        created = (before.get(values.TAG_CREATED), tags.get(values.TAG_CREATED))
        return None in created or created[0] == created[1]

    def not_listed(self, begun_at: float) -> None:
        """Record that a complete listing, started at loop time `begun_at`, does not contain it."""
        if self.missing_since is None:
            self.missing_since = begun_at
        self.missed += 1
        self.changes.bump()

    def known(self, *, logical_id: LogicalID | None = None, proven: bool = False, version: str = "") -> None:
        """Record that the previous leader knew it: as which pet, whether its start was proven, and its version."""
        self.listed_at = -math.inf
        if version and self.hash != values.BOOTSTRAP:
            self.hash = version
        self.was_stable = self.was_stable or proven
        if logical_id is not None:
            self.names = (logical_id, *(each for each in self.names if each != logical_id))
        self.changes.bump()

    def identify(self, *, is_self: bool) -> None:
        """Set whether this controller runs on it."""
        self.is_self = is_self
        self.changes.bump()

    def terminated(self, *, vanished: bool) -> None:
        """Record that its termination is confirmed. `vanished`: the provider does not know the instance any more."""
        self.state, self.vanished = State.TERMINATED, vanished
        self.changes.bump()

    def judged(self, report: HealthReport, at: float) -> bool:
        """Record a newer health report, requested at loop time `at`. True: the health has changed."""
        before, self.was_stable = self.report, self.is_proven
        self.report, self.judged_at = report, at
        if before is not None and before.health is report.health:
            return False
        self.healthy_since = at if report.health is Health.HEALTHY else None
        self.unhealthy_since = at if report.health is Health.UNHEALTHY else None
        self.changes.bump()
        return True

    def reset_health(self, now: float) -> None:
        """Discard the health: the instance may have changed, so only reports requested from now on count."""
        self.was_stable = self.is_proven
        self.report, self.judged_at = None, now
        self.healthy_since = self.unhealthy_since = None
        self.changes.bump()

    def read(self, description: Description, *, declared: Collection[LogicalID] | None) -> None:
        """Set identity, version and state from the provider's description. `declared`: of pets; None: cattle."""
        tags = description.tags or {}
        self.description, self.listed_as, self.identified_by = description, description, ""
        self.logical_id = LogicalID(self.listed_logical_id) if self.listed_logical_id else None
        if declared is not None:
            token = self.token or Token(tags.get(values.TAG_TOKEN, ""))
            found = identity.of_pet(self.logical_id, self.names, token, tags, declared=declared)
            self.logical_id, self.identified_by, self.names = found
        slot = self.logical_id if declared is not None else tags.get(values.TAG_SLOT)
        if self.identified_by:
            self.description = msgspec.structs.replace(description, logical_id=self.logical_id)
        self.slot = Slot(slot) if slot else None
        shown = tags.get(values.TAG_HASH, "")
        adopts = shown == values.BOOTSTRAP != self.listed_hash  # set by an operator
        if adopts or not self.hash or self.hash == values.BOOTSTRAP:
            self.hash = shown
        self.listed_hash = shown
        self.made_from = tags.get(values.TAG_MADE_FROM, self.made_from)
        self.state = description.state or State.UNSPECIFIED

    def read_again(self, declared: Collection[LogicalID] | None) -> None:
        """Identify it again, because what is declared or known of it has changed."""
        self.read(self.listed_as or self.description, declared=declared)

    def recognised_as(self, logical_id: LogicalID, by: str) -> None:
        """Record which pet it is, although it is listed without a logical ID."""
        self.logical_id, self.slot, self.identified_by = logical_id, Slot(logical_id), by
        self.names = (logical_id, *self.names)
        self.description = msgspec.structs.replace(self.description, logical_id=logical_id)
        self.changes.bump()

    def was_created(self, version: str, at: float) -> None:
        """Record that this controller has created it from that version, whatever listings show."""
        self.hash, self.hash_set_at = version, at
        self.changes.bump()

    def label_requested(self, *versions: str, until: float) -> None:
        """Record labels that begin: a listing may first show them until loop time `until`, even without a response."""
        self.labels_requested.update(dict.fromkeys(versions, until))
        self.changes.bump()

    def _label_listed(self, at: float) -> None:
        """Count a requested label that is listed as acknowledged. What it replaces may be listed again at any time."""
        version = self.listed_hash
        if version is not None and version != self.hash and at <= self.labels_requested.get(version, -math.inf):
            self.labels_requested[self.hash] = math.inf
            self.hash, self.hash_set_at = version, at

    def was_labelled(self, version: str, made_from: str, at: float) -> None:
        """Record that the provider has acknowledged a label with that version."""
        self.labelled_from = self.listed_hash
        self.hash, self.hash_set_at = version, at
        self.made_from = made_from or self.made_from
        self.changes.bump()

    # -- its destruction -------------------------------------------------------------------------------------------

    def start_drain(self) -> None:
        """Record that a drain starts."""
        assert self.leaving in (Leaving.NO, Leaving.DRAINING), self.leaving
        self._leave(Leaving.DRAINING)

    def start_destroy(self) -> None:
        """Record that the provider is about to be called."""
        assert self.leaving in (Leaving.NO, Leaving.DRAINING), self.leaving
        self._leave(Leaving.DESTROYING)

    def destroy_acknowledged(self, now: float) -> None:
        """Record that the provider has acknowledged the destruction."""
        assert self.leaving is Leaving.DESTROYING, self.leaving
        self.left_at = now
        self._leave(Leaving.DESTROYED)

    def destroy_not_done(self) -> None:
        """Record that the destruction certainly had no effect."""
        self._leave(Leaving.NO)

    def destroy_unknown(self, now: float) -> None:
        """Record that the outcome is unknown. If the provider had been called, the health is discarded."""
        if self.leaving is Leaving.DESTROYING:
            self.left_at = now
            self.reset_health(now)
        self._leave(Leaving.NO)

    def start_failed(self, why: str) -> None:
        """Record the error of the call that created it, which explains its termination."""
        self.start_error = why
        self.changes.bump()

    def inherited_destroy_expired(self, now: float) -> None:
        """Release the member: the previous leader's call can no longer take effect, and the instance still exists."""
        if self.leaving is Leaving.DESTROYING:
            self._leave(Leaving.NO)
            self.reset_health(now)

    def has_outlived_destroy(self, listed_until: float) -> bool:
        """Whether every listing would show the effect of its acknowledged destruction, which it does not."""
        return (
            self.leaving is Leaving.DESTROYED
            and self.missing_since is None
            and self.state is not State.STOPPING
            and listed_until > self.left_at
        )

    def retry_destroy(self) -> None:
        """Allow another destroy call: the acknowledged destruction has had no effect."""
        assert self.leaving is Leaving.DESTROYED, self.leaving
        self._leave(Leaving.NO)

    def _leave(self, leaving: Leaving) -> None:
        self.leaving = leaving
        self.changes.bump()


def discovered(
    description: Description,
    declared: Collection[LogicalID] | None,
    *,
    now: float,
    wall: float,
    changes: Revision,
    leaving: Leaving,
) -> Member:
    """Create the member for a newly listed instance, at loop time `now`, which is `wall` in seconds since 1970."""
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
        created_at=now - age_s,
        seen_at=now,
        leaving=leaving,
        changes=changes,
    )
    member.read(description, declared=declared)
    changes.bump()
    return member


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
