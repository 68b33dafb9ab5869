"""Health, and what a list of members needs, asked of the flavor so that whatever is slow delays only its own answer.

A cycle waits for a round only a moment and takes the verdicts that are there, each with the time at which it was asked
for; the rest arrives in later cycles. No answer within the deadline, and any error, is unknown. What a list of members
needs is one question beside the round, under the same rules.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from infrakit.spi import errors
from infrakit.spi.flavor import Flavor, JudgesMany, Members, MembershipChange
from infrakit.spi.values import Allocation, Description, Health, HealthReport, InstanceID

PATIENCE_S = 0.5
DEADLINE_S = 30.0
AT_ONCE_MAX = 64

Verdicts = tuple[float, Mapping[InstanceID, HealthReport]]  # when they were asked for, and what was answered
Needs = tuple[
    float, Sequence[MembershipChange] | str
]  # when they were asked for; the changes needed, or why they are unknown


class HealthProber:
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


class MembershipProber:
    """Asks one flavor what the list of members of one group needs."""

    def __init__(self) -> None:
        self._question: asyncio.Task[Needs] | None = None
        self._patient_until = 0.0

    def ask(
        self, flavor: Members, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> None:
        """Begin a question, unless one is under way."""
        if self._question is None:
            loop = asyncio.get_running_loop()
            self._question = loop.create_task(_needs(flavor, properties, instances, allocation))
            self._patient_until = loop.time() + PATIENCE_S

    async def answer(self) -> Needs | None:
        """What the question has brought, unless it is still under way a moment after it has begun."""
        if self._question is None:
            return None
        patience_s = self._patient_until - asyncio.get_running_loop().time()
        await asyncio.wait({self._question}, timeout=max(0.0, patience_s))
        if not self._question.done():
            return None
        answer, self._question = self._question.result(), None
        return answer

    async def close(self) -> None:
        """Cancel the question under way."""
        if self._question is not None:
            self._question.cancel()
            await asyncio.wait({self._question})


async def _needs(
    flavor: Members, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
) -> Needs:
    asked_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(DEADLINE_S):
            needs = await flavor.membership(properties=properties, instances=instances, allocation=allocation)
        _check(needs)
    except Exception as error:
        return asked_at, _why(error)
    return asked_at, needs


def _check(needs: object) -> None:
    """Raise `PluginError` unless it is what the needs of a list must be: nothing may be done for anything else."""
    if not isinstance(needs, Sequence) or not all(isinstance(each, MembershipChange) for each in needs):
        raise errors.PluginError(f"what its list of members needs is no sequence of changes, but {needs!r}")


def _unknown(error: Exception) -> HealthReport:
    return HealthReport(health=Health.UNKNOWN, note=_why(error))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the flavor did not answer within {DEADLINE_S:.0f} s"
    return f"the flavor failed: {error}"
