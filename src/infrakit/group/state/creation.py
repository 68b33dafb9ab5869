"""A pending creation: a recorded intent that is not resolved yet, and the state of its call."""

import enum

import msgspec

from infrakit.group.ledger import Intent
from infrakit.group.state.revision import Revision
from infrakit.spi import values
from infrakit.spi.values import Description, GroupID, InstanceID, LogicalID, Slot, State


class Phase(enum.StrEnum):
    """The progress of a creation."""

    RECORDED = "recorded"  # in the ledger; the provider has not been called, or certainly did nothing
    CALLING = "calling"  # the call is in flight
    CREATED = "created"  # the provider has acknowledged it; no listing shows it yet
    REFUSED = "refused"  # the provider certainly created nothing, and will not
    UNKNOWN = "unknown"  # a call was not answered: it may have created the instance


class Creation(msgspec.Struct, kw_only=True):
    """One unresolved intent. Attributes are read freely; they change through the methods only."""

    intent: Intent
    phase: Phase
    uncertain: bool = False  # a call for it was not answered, so the instance may exist
    instance: InstanceID | None = None
    ended_at: float  # loop time from which on no call can take effect: the last returned, or its deadline has passed
    effect_until: float = 0.0  # loop time until which the newest call may take effect, if it is not answered
    retry_at: float = 0.0
    error: str = ""
    provider_error: str = ""  # the provider's own answer, if it was an error; not that of a connection or a timeout
    calls: int = 0  # calls of this process
    version: str = ""  # that the last call requested; empty: none was made by this process
    refused: bool = False  # the last call was refused; an earlier one may have created the instance
    listed_first: bool = False  # its instance was listed, and reported as created, before the call returned
    misanswered: bool = False  # the provider answers its token with the ID of another instance
    presumed_absent: bool = False  # no listing and no inspection that would show it has shown it
    terminated: bool = False  # its instance was listed, and has terminated
    inspected: bool = False  # an inspection has shown its instance, which listings omit
    changes: Revision = msgspec.field(default_factory=Revision)

    @property
    def may_be_called(self) -> bool:
        """Whether a call may start: none is in flight, and none has been acknowledged or finally refused."""
        return self.phase in (Phase.RECORDED, Phase.UNKNOWN)

    def described(self, slot: Slot, *, group: GroupID, pets: bool) -> Description:
        """Describe the instance that it may have created; an unknown ID is empty."""
        tag = values.TAG_LOGICAL_ID if pets else values.TAG_SLOT
        return Description(
            id=self.instance or InstanceID(""),
            logical_id=LogicalID(slot) if pets else None,
            tags={values.TAG_GROUP: group, values.TAG_TOKEN: self.intent.token, tag: slot},
            state=State.PENDING,
        )

    def call(self, version: str = "") -> None:
        """Record that a call for that version starts. Earlier listings without the instance prove nothing about it."""
        assert self.may_be_called, self.phase
        self.phase, self.presumed_absent = Phase.CALLING, False
        self.calls += 1
        self.version = version
        self.changes.bump()

    def retry_now(self) -> None:
        """Drop the delay before the next call, which another version has caused."""
        self.retry_at = 0.0
        self.changes.bump()

    def requested(self, effect_until: float) -> None:
        """Record that the provider is about to be called."""
        assert self.phase is Phase.CALLING, self.phase
        self.effect_until = effect_until

    def created(self, instance: InstanceID, now: float) -> None:
        """Record that the provider has acknowledged the creation."""
        assert self.phase is Phase.CALLING, self.phase
        self.phase, self.instance, self.ended_at = Phase.CREATED, instance, now
        self.error = self.provider_error = ""
        self.changes.bump()

    def listed_before_response(self) -> None:
        """Record that its instance is listed while the call is in flight. The call continues: its error may follow."""
        assert self.phase is Phase.CALLING, self.phase
        self.listed_first = True
        self.changes.bump()

    def answered_as_another(self) -> None:
        """Record that the provider has returned the ID of another instance: no retry shows what the token created."""
        assert self.phase is Phase.CALLING, self.phase
        self.misanswered = True
        self.changes.bump()

    def inspected_as_another(self) -> None:
        """Record that another instance has the returned ID: listings alone show whether the creation's own one exists.

        The provider has used the ID again after its own instance had terminated, or has returned a wrong one.
        """
        assert self.phase is Phase.CREATED, self.phase
        if not self.presumed_absent:
            self.error = f"the provider returned the ID {self.instance}, which another instance has"
            self.phase, self.instance = Phase.UNKNOWN, None
            self.uncertain = self.misanswered = True
            self.changes.bump()

    def not_created(self, why: str, now: float, *, retry_at: float | None = None) -> None:
        """Record that this call certainly created nothing; an earlier one, of this or the previous leader, may have."""
        assert self.phase is Phase.CALLING, self.phase
        self.phase = Phase.UNKNOWN if self.uncertain else Phase.RECORDED
        self._ended(why, now, retry_at)

    def refuse(self, why: str, now: float, *, retry_at: float) -> None:
        """Record that the provider refuses the creation. An earlier unanswered call may still have created it."""
        assert self.phase is Phase.CALLING, self.phase
        self.phase = Phase.UNKNOWN if self.uncertain else Phase.REFUSED
        self.refused, self.provider_error = self.uncertain, why
        self._ended(why, now, retry_at if self.uncertain else None)

    def unanswered(self, why: str, now: float, *, retry_at: float, provider_error: str = "") -> None:
        """Record that the call was not answered, or with an error that leaves the outcome open.

        The instance may exist, or be created until `effect_until`.
        """
        assert self.phase is Phase.CALLING, self.phase
        self.provider_error = provider_error or self.provider_error
        self.phase, self.uncertain, self.presumed_absent = Phase.UNKNOWN, True, False
        self._ended(why, max(now, self.effect_until), retry_at)

    def presume_absent(self) -> None:
        """Record that neither listings nor an inspection have shown the instance in the time in which they would."""
        assert self.phase in (Phase.CREATED, Phase.UNKNOWN), self.phase
        self.presumed_absent = True
        self.changes.bump()

    def inspected_alive(self) -> None:
        """Record that an inspection shows the instance, so that no operator can presume it absent."""
        if not self.inspected:
            self.inspected = True
            self.changes.bump()

    def instance_terminated(self) -> None:
        """Record that its instance, which was listed, has terminated."""
        self.terminated = True
        self.changes.bump()

    def _ended(self, why: str, at: float, retry_at: float | None) -> None:
        self.error = why
        self.ended_at = max(self.ended_at, at)
        if retry_at is not None:
            self.retry_at = retry_at
        self.changes.bump()
