"""A member: one instance that carries the group's tag, and what has been observed of it."""

import datetime
import enum
import math

import msgspec

from infrakit.group.state.revision import Revision
from infrakit.spi import values
from infrakit.spi.values import Description, Health, HealthReport, InstanceID, LogicalID, Slot, State, Token

VERDICT_AGE_S_MAX = 60.0  # an older health report counts as unknown


class Leaving(enum.StrEnum):
    """How far the destruction of a member has come. The empty value: it is not being destroyed."""

    NO = ""
    DRAINING = "draining"  # its workload is being drained; the provider has not been called
    DESTROYING = "destroying"  # the provider has been called, by this leader or by the previous one
    DESTROYED = "destroyed"  # the provider has acknowledged it; the listing still shows the instance


class Member(msgspec.Struct, kw_only=True):
    """One instance of the group. Attributes are read freely; they change through the methods only."""

    description: Description
    id: InstanceID
    slot: Slot | None
    logical_id: LogicalID | None
    hash: str
    token: Token | None
    born_at: float  # when its creation was requested, or when it was first listed
    state: State = State.UNSPECIFIED
    serial: int = 0  # of the last listing that showed it
    missing_since: float | None = None
    missed: int = 0  # complete listings without it
    report: HealthReport | None = None
    judged_at: float = -math.inf
    healthy_since: float | None = None
    unhealthy_since: float | None = None
    leaving: Leaving = Leaving.NO
    left_at: float = -math.inf  # when its destruction was acknowledged, or when the call for it ended without an answer
    is_self: bool = False  # this controller runs on it
    changes: Revision = msgspec.field(default_factory=Revision)

    def health(self, now: float) -> Health:
        """The newest report, unless it is too old or the instance is missing from the listing."""
        if self.report is None or self.missing_since is not None or now - self.judged_at > VERDICT_AGE_S_MAX:
            return Health.UNKNOWN
        return self.report.health

    # -- observations ----------------------------------------------------------------------------------------------

    def listed(self, description: Description, *, serial: int, pets: bool) -> None:
        """A complete listing shows it."""
        self.serial = serial
        if self.description is not description and self.description != description:
            self.read(description, pets=pets)
            self.changes.bump()
        if self.missing_since is not None:
            self.missing_since, self.missed = None, 0
            self.changes.bump()

    def not_listed(self, begun_at: float) -> None:
        """A complete listing, begun at that time, does not show it."""
        if self.missing_since is None:
            self.missing_since = begun_at
        self.missed += 1
        self.changes.bump()

    def identify(self, *, is_self: bool) -> None:
        """Whether this controller runs on it."""
        self.is_self = is_self
        self.changes.bump()

    def terminated(self) -> None:
        """The provider has confirmed its termination."""
        self.state = State.TERMINATED
        self.changes.bump()

    def judged(self, report: HealthReport, at: float) -> bool:
        """The flavor's report, requested at that time. True: its health has changed."""
        if at < self.judged_at:
            return False
        before, self.judged_at = self.report, at
        if before is report:
            return False
        self.report = report
        if before is not None and before.health is report.health:
            return False
        self.healthy_since = at if report.health is Health.HEALTHY else None
        self.unhealthy_since = at if report.health is Health.UNHEALTHY else None
        self.changes.bump()
        return True

    def reset_health(self, now: float) -> None:
        """Its state may have changed: only health that is requested from now on counts."""
        self.report, self.judged_at = None, now
        self.healthy_since = self.unhealthy_since = None
        self.changes.bump()

    def read(self, description: Description, *, pets: bool) -> None:
        """Take identity, version and state from the provider's description."""
        tags = description.tags or {}
        logical_id = description.logical_id or tags.get(values.TAG_LOGICAL_ID) or None
        slot = logical_id if pets else tags.get(values.TAG_SLOT)
        self.description = description
        self.logical_id = LogicalID(logical_id) if logical_id else None
        self.slot = Slot(slot) if slot else None
        self.hash = tags.get(values.TAG_HASH, "")
        self.state = description.state or State.UNSPECIFIED

    # -- its destruction -------------------------------------------------------------------------------------------

    def start_drain(self) -> None:
        """Its workload is being drained."""
        assert self.leaving in (Leaving.NO, Leaving.DRAINING), self.leaving
        self._leave(Leaving.DRAINING)

    def start_destroy(self) -> None:
        """The provider is about to be called."""
        assert self.leaving in (Leaving.NO, Leaving.DRAINING), self.leaving
        self._leave(Leaving.DESTROYING)

    def destroy_acknowledged(self, now: float) -> None:
        """The provider has answered that it destroys it."""
        assert self.leaving is Leaving.DESTROYING, self.leaving
        self.left_at = now
        self._leave(Leaving.DESTROYED)

    def destroy_not_done(self) -> None:
        """The destruction certainly did not happen."""
        self._leave(Leaving.NO)

    def destroy_unknown(self, now: float) -> None:
        """The outcome of the destruction is unknown. If the provider was called, earlier health no longer counts."""
        if self.leaving is Leaving.DESTROYING:
            self.left_at = now
            self.reset_health(now)
        self._leave(Leaving.NO)

    def inherited_destroy_expired(self, now: float) -> None:
        """The previous leader's call can no longer take effect, and the instance still exists."""
        if self.leaving is Leaving.DESTROYING:
            self._leave(Leaving.NO)
            self.reset_health(now)

    def retry_destroy(self) -> None:
        """The acknowledged destruction has not happened: it is requested again."""
        assert self.leaving is Leaving.DESTROYED, self.leaving
        self._leave(Leaving.NO)

    def _leave(self, leaving: Leaving) -> None:
        self.leaving = leaving
        self.changes.bump()


def discovered(
    description: Description, *, pets: bool, now: float, wall: float, changes: Revision, leaving: Leaving
) -> Member:
    """A member that is listed for the first time, at the loop's `now`, which is `wall` in seconds since 1970."""
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
        leaving=leaving,
        changes=changes,
    )
    member.read(description, pets=pets)
    changes.bump()
    return member


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
