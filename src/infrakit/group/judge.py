"""Health, asked of the flavor in rounds, so that a slow or hanging check delays nothing but its own verdict.

A cycle waits for a round only a moment and takes the verdicts that are there, each with the time at which it was asked
for; the rest arrives in later cycles. No answer within the deadline, and any error, is unknown.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from infrakit.spi.flavor import Flavor, JudgesMany
from infrakit.spi.values import Description, Health, HealthReport, InstanceID

PATIENCE_S = 0.5
DEADLINE_S = 30.0
AT_ONCE_MAX = 64

UNANSWERED = HealthReport(health=Health.UNKNOWN, note=f"the flavor did not answer within {DEADLINE_S:.0f} s")

Verdicts = tuple[float, Mapping[InstanceID, HealthReport]]  # when they were asked for, and what was answered


class Judge:
    """Asks one flavor about one group."""

    def __init__(self, flavor: Flavor) -> None:
        self._flavor = flavor
        self._round: asyncio.Task[None] | None = None
        self._answers: list[Verdicts] = []

    async def verdicts(self, properties: msgspec.Raw, instances: Sequence[Description]) -> list[Verdicts]:
        """What has been answered since the last time. Starts a round unless one is under way."""
        if self._round is None and instances:
            self._round = asyncio.get_running_loop().create_task(self._ask(properties, instances))
        if self._round is not None:
            await asyncio.wait({self._round}, timeout=PATIENCE_S)
            if self._round.done():
                self._round = None
        answers, self._answers = self._answers, []
        return answers

    async def _ask(self, properties: msgspec.Raw, instances: Sequence[Description]) -> None:
        if isinstance(self._flavor, JudgesMany):
            asked_at = asyncio.get_running_loop().time()
            reports = await self._ask_all(self._flavor, properties, instances)
            self._answers.append((asked_at, reports))
            return
        turn = asyncio.Semaphore(AT_ONCE_MAX)

        async def ask(instance: Description) -> None:
            async with turn:
                asked_at = asyncio.get_running_loop().time()
                report = await self._ask_one(properties, instance)
                self._answers.append((asked_at, {instance.id: report}))

        async with asyncio.TaskGroup() as tasks:
            for instance in instances:
                tasks.create_task(ask(instance))

    async def _ask_all(
        self, flavor: JudgesMany, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await flavor.healthy_all(properties=properties, instances=instances)
        except Exception as error:
            return dict.fromkeys((i.id for i in instances), _unknown(error))

    async def _ask_one(self, properties: msgspec.Raw, instance: Description) -> HealthReport:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._flavor.healthy(properties=properties, instance=instance)
        except Exception as error:
            return _unknown(error)

    async def close(self) -> None:
        """Cancel the round under way."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait({self._round})


def _unknown(error: Exception) -> HealthReport:
    if isinstance(error, TimeoutError):
        return UNANSWERED
    return HealthReport(health=Health.UNKNOWN, note=f"the flavor failed: {error}")
