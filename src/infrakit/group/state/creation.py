"""A pending creation: a recorded intent that is not resolved yet, and what is known of its call."""

import enum

import msgspec

from infrakit.group.ledger import Intent
from infrakit.group.state.revision import Revision
from infrakit.spi.values import InstanceID


class Phase(enum.StrEnum):
    """How far a creation has come."""

    RECORDED = "recorded"  # in the ledger; the provider has not been called, or certainly did nothing
    CALLING = "calling"  # the call is under way
    CREATED = "created"  # the provider has acknowledged it; no listing shows it yet
    REFUSED = "refused"  # the provider certainly created nothing, and will not
    UNKNOWN = "unknown"  # a call ended without an answer: it may have created the instance


class Creation(msgspec.Struct, kw_only=True):
    """One unresolved intent. Attributes are read freely; they change through the methods only."""

    intent: Intent
    phase: Phase
    unsure: bool = False  # a call for it ended without an answer, so that the instance may exist
    instance: InstanceID | None = None
    ended_at: float  # when the last call ended, or when the intent was found
    retry_at: float = 0.0
    error: str = ""
    calls: int = 0  # made by this process
    refused: bool = False  # the last call was refused; an earlier one may have created the instance
    presumed_absent: bool = False  # no listing and no inspection that would show it has shown it
    changes: Revision = msgspec.field(default_factory=Revision)

    @property
    def may_be_called(self) -> bool:
        """Whether a call may begin: none is under way, and none before it has an answer."""
        return self.phase in (Phase.RECORDED, Phase.UNKNOWN)

    def call(self) -> None:
        """A call begins: what earlier listings left out proves nothing about this one."""
        assert self.may_be_called, self.phase
        self.phase, self.presumed_absent = Phase.CALLING, False
        self.calls += 1
        self.changes.bump()

    def created(self, instance: InstanceID, now: float) -> None:
        """The provider has acknowledged it."""
        assert self.phase is Phase.CALLING, self.phase
        self.phase, self.instance, self.ended_at = Phase.CREATED, instance, now
        self.changes.bump()

    def not_created(self, why: str, now: float, *, retry_at: float | None = None) -> None:
        """This call certainly created nothing; an earlier one may have, or the previous leader's may still do so."""
        assert self.phase is Phase.CALLING, self.phase
        self.phase = Phase.UNKNOWN if self.unsure else Phase.RECORDED
        self._ended(why, now, retry_at)

    def refuse(self, why: str, now: float, *, retry_at: float) -> None:
        """The provider will not create it, which proves nothing about an earlier call without an answer."""
        assert self.phase is Phase.CALLING, self.phase
        self.phase = Phase.UNKNOWN if self.unsure else Phase.REFUSED
        self.refused = self.unsure
        self._ended(why, now, retry_at if self.unsure else None)

    def unanswered(self, why: str, now: float, *, retry_at: float) -> None:
        """The call ended without an answer: the instance may exist."""
        assert self.phase is Phase.CALLING, self.phase
        self.phase, self.unsure, self.presumed_absent = Phase.UNKNOWN, True, False
        self._ended(why, now, retry_at)

    def presume_absent(self) -> None:
        """Everything that would show the instance has not."""
        assert self.phase in (Phase.CREATED, Phase.UNKNOWN), self.phase
        self.presumed_absent = True
        self.changes.bump()

    def _ended(self, why: str, now: float, retry_at: float | None) -> None:
        self.error = why
        self.ended_at = max(self.ended_at, now)
        if retry_at is not None:
            self.retry_at = retry_at
        self.changes.bump()
