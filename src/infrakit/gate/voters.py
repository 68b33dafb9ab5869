"""The voters of a quorum, as the member list of its own cluster has them, and what it can lose (law 5).

The list contains what no declaration does: voters that have never started, of another group, or left over. So the
majority is counted from the list. Unknown is not proven: while the list is not known, no voter may be destroyed unless
it is known to be unhealthy. Pure: times are seconds of the loop.
"""

import math
from collections.abc import Collection, Sequence

from infrakit.spi.flavor import Voter
from infrakit.spi.quorum import majority
from infrakit.spi.values import InstanceID

AGE_S_MAX = 60.0  # maximum age of a list
NO_MARGIN = 2  # one or two voters can lose none: the limit would forbid every replacement
NAMES_MAX = 3


class VoterList:
    """The newest list of one group, or why there is none."""

    def __init__(self) -> None:
        self._voters: Sequence[Voter] = ()
        self._requested_at = -math.inf
        self._problem = "it has not been polled yet"

    def listed(self, answer: Sequence[Voter] | str, requested_at: float) -> bool:
        """Record a list, or a text: why the newest poll failed. True: it differs from the previous state."""
        if isinstance(answer, str):
            different, self._problem = answer != self._problem, answer
            return different
        different = (tuple(answer), "") != (self._voters, self._problem)
        self._voters, self._problem, self._requested_at = tuple(answer), "", requested_at
        return different

    def unknown(self, now: float) -> str:
        """The reason why the list is not known; empty if it is."""
        if now - self._requested_at <= AGE_S_MAX and self._voters:
            return ""
        return self._problem or ("it is empty" if not self._voters else f"the last one is older than {AGE_S_MAX:g} s")

    def refuse(self, instance: InstanceID, *, is_unhealthy: bool, healthy: Collection[InstanceID], now: float) -> str:
        """The reason why the destruction of an instance must not begin; empty if the majority remains.

        `healthy` are the instances that are proven healthy and not being destroyed.
        """
        if unknown := self.unknown(now):
            if is_unhealthy:
                return ""
            return f"it is not proven that the quorum keeps its majority: the list of its voters is unknown ({unknown})"
        own = [each for each in self._voters if instance in each.instances]
        if len(self._voters) <= NO_MARGIN or all(each.healthy is False or _is_lost(each, is_unhealthy) for each in own):
            return ""  # it has no vote, or its vote is not available anyway
        rest = [each for each in self._voters if instance not in each.instances]
        left, total = sum(_is_available(each, healthy) for each in rest), len(self._voters)
        if left >= majority(total):
            return ""
        lost = [each.name or each.address or each.id for each in rest if not _is_available(each, healthy)]
        named = f" (not healthy: {', '.join(lost[:NAMES_MAX])})" if lost else ""
        return f"{left} of {total} listed voters would be left healthy{named}, and the quorum needs {majority(total)}"

    def summary(self, healthy: Collection[InstanceID], now: float) -> str:
        """What the quorum can still lose, as a sentence."""
        if unknown := self.unknown(now):
            return f"what the quorum can lose is not known: the list of its voters is unknown ({unknown})"
        total, available = len(self._voters), sum(_is_available(each, healthy) for each in self._voters)
        spare = available - majority(total)
        if spare < 0:
            return f"{available} of {total} listed voters are healthy, and the quorum needs {majority(total)}"
        return f"{available} of {total} listed voters are healthy; the quorum can lose {spare or 'none'} of them"


def _is_lost(voter: Voter, is_unhealthy: bool) -> bool:
    return voter.healthy is None and is_unhealthy


def _is_available(voter: Voter, healthy: Collection[InstanceID]) -> bool:
    """Whether its vote counts: the list has it as healthy, and so does the group if it is one of its members."""
    return voter.healthy is True and (not voter.instances or any(each in healthy for each in voter.instances))
