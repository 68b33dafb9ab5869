"""The changes that a flavor's member list needs, as of the last successful poll (`spi.flavor.Members`).

A result counts only if it was requested after the last change of the list. After an error or timeout, the previous
result remains valid, but expires after 60 s. Times are loop times, in seconds.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

from infrakit.spi.flavor import MembershipChange

AGE_S_MAX = 60.0  # maximum age of a result


class Membership(msgspec.Struct, kw_only=True):
    """The state of the member list of one group."""

    needs: tuple[MembershipChange, ...] = ()  # in the flavor's order
    requested_at: float = -math.inf  # when the newest result was requested
    problem: str = "it has not been polled yet"  # why the newest poll has failed; empty: it has not
    changing: MembershipChange | None = None  # the change in progress
    changed_at: float = -math.inf  # when the last change ended, whatever its outcome
    # By ID: changes of unknown outcome, of this or the previous leader, and until when they may take effect.
    unsettled: dict[str, float] = msgspec.field(default_factory=dict)

    def fresh(self, now: float) -> bool:
        """Whether the needed changes are known, even if from before the last change."""
        return now - self.requested_at <= AGE_S_MAX

    def known(self, now: float) -> bool:
        """Whether the needed changes are current enough to act on."""
        return self.fresh(now) and not self.problem and self.requested_at >= self.changed_at

    def observed(self, answer: Sequence[MembershipChange] | str, requested_at: float) -> bool:
        """Record a result, or a text: why the newest poll failed. True: it differs from the previous state."""
        if isinstance(answer, str):
            different, self.problem = answer != self.problem, answer
            return different
        if requested_at < self.changed_at:
            return False  # it may be from before the last change
        before = (self.needs, self.problem, self.requested_at >= self.changed_at, len(self.unsettled))
        self.needs, self.problem, self.requested_at = tuple(answer), "", requested_at
        self.unsettled = {change: until for change, until in self.unsettled.items() if requested_at <= until}
        return before != (self.needs, "", True, len(self.unsettled))

    def unknown(self, changes: Iterable[str], until: float) -> None:
        """Record changes of unknown outcome: a result that is requested after `until` shows it."""
        self.unsettled.update(dict.fromkeys(changes, until))

    def ended(self, now: float, *, done: bool) -> None:
        """Record that the change in progress has ended. The next poll shows its effect."""
        if done and self.changing is not None:
            self.needs = tuple(need for need in self.needs if need.id != self.changing.id)
        self.changing, self.changed_at = None, now
