"""The changes that a flavor's member list needs, as of the last successful poll (`spi.flavor.Members`).

An answer counts if it was requested after the last change of the list. Errors and timeouts keep the previous answer,
which expires after 60 s. Times are the event loop's, in seconds.
"""

import math
from collections.abc import Sequence

import msgspec

from infrakit.spi.flavor import MembershipChange

AGE_S_MAX = 60.0  # what was seen before is not known any more


class Membership(msgspec.Struct, kw_only=True):
    """The member list of one group."""

    needs: tuple[MembershipChange, ...] = ()  # in the flavor's order
    asked_at: float = -math.inf  # when the flavor was asked what it has answered
    problem: str = "it has not been polled yet"  # why the newest question has no answer
    changing: MembershipChange | None = None  # under way
    changed_at: float = -math.inf  # when the last change ended, whatever its outcome

    def fresh(self, now: float) -> bool:
        """Whether what it needs is known, be it from before the last change."""
        return now - self.asked_at <= AGE_S_MAX

    def known(self, now: float) -> bool:
        """Whether what it needs may be acted on."""
        return self.fresh(now) and not self.problem and self.asked_at >= self.changed_at

    def answered(self, needs: Sequence[MembershipChange], asked_at: float) -> bool:
        """Take an answer. True: something is different now."""
        if asked_at < self.changed_at:
            return False  # it may show what has been changed meanwhile
        before = (self.needs, self.problem, self.asked_at >= self.changed_at)
        self.needs, self.problem, self.asked_at = tuple(needs), "", asked_at
        return before != (self.needs, "", True)

    def unanswered(self, problem: str) -> bool:
        """The newest question has no answer. True: something is different now."""
        different, self.problem = problem != self.problem, problem
        return different

    def ended(self, now: float, *, done: bool) -> None:
        """The change under way is over. The next poll shows whether it was enough."""
        if done and self.changing is not None:
            self.needs = tuple(need for need in self.needs if need.id != self.changing.id)
        self.changing, self.changed_at = None, now
