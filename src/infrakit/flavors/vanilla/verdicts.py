"""Verdicts: derive the health of an instance from the outcomes of consecutive probes.

A single failed probe does not make an instance unhealthy, and a single passed one may not make it healthy: a verdict
changes only after as many equal outcomes in a row as the check declares. Until then the last verdict remains; before
the first verdict, the health is unknown. The result does not depend on the polling interval of the controller: probes
at shorter intervals than that of the check count as one. A probe without an outcome changes nothing, and is reported as
unknown. Outcomes are kept in memory: after a restart, health is unknown until enough probes have run.
"""

import asyncio
from collections.abc import Collection
from typing import NamedTuple

from infrakit.flavors.vanilla.probes import Outcome
from infrakit.flavors.vanilla.properties import Check
from infrakit.spi.group import seconds
from infrakit.spi.values import GroupID, Health, HealthReport, InstanceID

_INSTANCES_MAX = 100_000  # per group; the largest size that can be declared


class _Streak(NamedTuple):
    verdict: Health  # the last verdict reached
    towards: Health  # the verdict that the last outcomes support
    length: int  # how many of them are consecutive
    counted_at: float  # loop time of the last one that counted


_INITIAL = _Streak(Health.UNKNOWN, Health.UNKNOWN, 0, 0.0)


class Verdicts:
    """The streaks of consecutive outcomes of every instance, by group."""

    def __init__(self) -> None:
        self._groups: dict[GroupID, dict[InstanceID, _Streak]] = {}

    def record(self, group: GroupID, instance: InstanceID, outcome: Outcome, check: Check) -> HealthReport:
        """Record one outcome, and return the current verdict."""
        if outcome.passed is None:
            return HealthReport(health=Health.UNKNOWN, note=outcome.note)
        streaks = self._groups.setdefault(group, {})
        before = streaks.pop(instance, _INITIAL)  # inserted again below: the dictionary is ordered by last use
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

    def retain(self, group: GroupID, instances: Collection[InstanceID]) -> None:
        """Drop the streaks of all other instances of this group."""
        streaks = self._groups.get(group)
        if streaks is None or len(streaks) <= len(instances):
            return
        for dropped in streaks.keys() - set(instances):
            del streaks[dropped]
