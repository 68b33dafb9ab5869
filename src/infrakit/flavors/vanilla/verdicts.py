"""Verdicts: what several looks in a row say about an instance.

One failed look is not a sick instance, and one good look may not be a sound one, so a verdict changes only after as
many equal outcomes in a row as the check declares. In between the last verdict stands; before the first it is unknown.
How often a controller asks says nothing about an instance: looks closer together than the check's interval count once.
A look that could not be made changes nothing, and is reported as unknown.
The memory lives in this process alone: after a restart every instance is unknown until it has proven itself again.
"""

import asyncio
from collections.abc import Collection
from typing import NamedTuple

from infrakit.flavors.vanilla.probes import Outcome
from infrakit.flavors.vanilla.properties import Check
from infrakit.spi.group import seconds
from infrakit.spi.values import GroupID, Health, HealthReport, InstanceID

_INSTANCES_MAX = 100_000  # of one group: the largest that can be declared


class _Streak(NamedTuple):
    verdict: Health  # the last that was reached
    towards: Health  # what the last outcomes spoke for
    length: int  # how many of them in a row
    counted_at: float  # loop time of the last of them


_FRESH = _Streak(Health.UNKNOWN, Health.UNKNOWN, 0, 0.0)


class Verdicts:
    """The streaks of every instance, by group."""

    def __init__(self) -> None:
        self._groups: dict[GroupID, dict[InstanceID, _Streak]] = {}

    def reach(self, group: GroupID, instance: InstanceID, outcome: Outcome, check: Check) -> HealthReport:
        """Count one outcome in, and say what stands now."""
        if outcome.passed is None:
            return HealthReport(health=Health.UNKNOWN, note=outcome.note)
        streaks = self._groups.setdefault(group, {})
        before = streaks.pop(instance, _FRESH)  # and put back at the end: the order is by last use
        while len(streaks) >= _INSTANCES_MAX:
            del streaks[next(iter(streaks))]
        towards = Health.HEALTHY if outcome.passed else Health.UNHEALTHY
        needed = check.successes if outcome.passed else check.failures
        now = asyncio.get_running_loop().time()
        if towards is not before.towards:
            length, counted_at = 1, now
        elif now - before.counted_at >= seconds(check.interval):
            length, counted_at = min(before.length + 1, needed), now
        else:
            length, counted_at = before.length, before.counted_at
        verdict = towards if length >= needed else before.verdict
        streaks[instance] = _Streak(verdict, towards, length, counted_at)
        if verdict is towards:
            return HealthReport(health=verdict, note=outcome.note)
        what = "success" if outcome.passed else "failure"
        return HealthReport(health=verdict, note=f"{outcome.note} ({what} {length} of {needed})")

    def keep(self, group: GroupID, instances: Collection[InstanceID]) -> None:
        """Forget all others of this group."""
        streaks = self._groups.get(group)
        if streaks is None or len(streaks) <= len(instances):
            return
        for gone in streaks.keys() - set(instances):
            del streaks[gone]
