"""Health, asked of the flavor in rounds, so that a slow or hanging check delays nothing but its own verdict.

A cycle waits for a round only a moment; what is not answered by then arrives in a later cycle, with the time at which
it was asked for. No answer within the deadline, and any error, is unknown.
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


class Judge:
    """Asks one flavor about one group."""

    def __init__(self, flavor: Flavor) -> None:
        self._flavor = flavor
        self._round: asyncio.Task[Mapping[InstanceID, HealthReport]] | None = None
        self._asked_at = 0.0

    async def verdicts(
        self, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> tuple[Mapping[InstanceID, HealthReport], float]:
        """What is known now, and when it was asked for. Starts a round unless one is under way."""
        loop = asyncio.get_running_loop()
        if not instances and self._round is None:
            return {}, loop.time()
        if self._round is None:
            self._asked_at = loop.time()
            self._round = loop.create_task(self._ask(properties, instances))
        await asyncio.wait({self._round}, timeout=PATIENCE_S)
        if not self._round.done():
            return {}, self._asked_at
        result, self._round = self._round.result(), None
        return result, self._asked_at

    async def _ask(
        self, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        if isinstance(self._flavor, JudgesMany):
            try:
                async with asyncio.timeout(DEADLINE_S):
                    return await self._flavor.healthy_all(properties=properties, instances=instances)
            except TimeoutError:
                return dict.fromkeys((i.id for i in instances), UNANSWERED)
            except Exception as error:
                failed = HealthReport(health=Health.UNKNOWN, note=f"the flavor failed: {error}")
                return dict.fromkeys((i.id for i in instances), failed)
        turn = asyncio.Semaphore(AT_ONCE_MAX)
        reports: dict[InstanceID, HealthReport] = {}

        async def ask(instance: Description) -> None:
            async with turn:
                reports[instance.id] = await self._ask_one(properties, instance)

        async with asyncio.TaskGroup() as tasks:
            for instance in instances:
                tasks.create_task(ask(instance))
        return reports

    async def _ask_one(self, properties: msgspec.Raw, instance: Description) -> HealthReport:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._flavor.healthy(properties=properties, instance=instance)
        except TimeoutError:
            return UNANSWERED
        except Exception as error:
            return HealthReport(health=Health.UNKNOWN, note=f"the flavor failed: {error}")

    async def close(self) -> None:
        """Cancel the round under way."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait({self._round})
