"""Law 5: how many instances of a group are created within an hour, counted by their requests and by their lives."""

import collections

from infrakit.simulation.oracle import exceptions
from infrakit.simulation.oracle.facts import Facts
from infrakit.spi.values import GroupID

HOUR_S = 3600.0
AT_LEAST = 10


class Creations:
    """When which token was requested for the first time."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._tokens: set[str] = set()
        self._times: dict[GroupID, collections.deque[float]] = {}

    def resuming(self, group: GroupID) -> None:
        """An operator is about to resume a group: it may create as many again."""
        self._times.pop(group, None)

    def restored(self) -> None:
        """The store has lost what was counted since its backup, and what the backup contains does not count."""
        self._times.clear()

    def created(self, group: GroupID, token: str) -> None:
        """Check one more creation: at most twice the size, plus the growth, plus the size for each new version.

        Each copy of a forked store counts what is created by its leader alone.
        """
        if token in self._tokens:
            return
        self._tokens.add(token)
        facts, times = self._facts, self._times.setdefault(group, collections.deque())
        times.append(facts.now)
        since = max(facts.now - HOUR_S, facts.managed_since(group))
        while times[0] < since:
            times.popleft()
        recent = facts.group_since(group, since)
        size = max((each.size for each in recent), default=0)
        existed = recent and facts.history[0][0] < facts.now - HOUR_S
        growth = size - recent[-1].size if existed else size
        versions = {(each.version, each.policy) for each in recent}
        limit = facts.stores * (max(AT_LEAST, 2 * size) + growth + max(0, len(versions) - 1) * size)
        facts.require(
            len(times) <= limit,
            exceptions.CREATIONS,
            f"{len(times)} instances of {group} were created within an hour, at most {limit} are permitted",
        )
