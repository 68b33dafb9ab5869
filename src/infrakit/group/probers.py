"""Polls the flavor for health and for the changes that its member list needs, beside the reconcile cycle.

A slow probe delays only its own result: a cycle waits at most `WAIT_S` and takes the reports that have arrived, each
with the time at which it was requested; the others arrive in later cycles. A timeout and any error count as unknown.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from infrakit.spi import errors
from infrakit.spi.flavor import Flavor, JudgesMany, Members, MembershipChange
from infrakit.spi.values import Allocation, Description, Health, HealthReport, InstanceID

WAIT_S = 0.5
DEADLINE_S = 30.0
AT_ONCE_MAX = 64

# Each with the loop time in seconds at which it was requested; a text says why the needed changes are unknown.
Verdicts = tuple[float, Mapping[InstanceID, HealthReport]]
Needs = tuple[float, Sequence[MembershipChange] | str]


class HealthProber:
    """Polls one flavor for the health of the members of one group."""

    def __init__(self, flavor: Flavor) -> None:
        self._flavor = flavor
        self._round: asyncio.Task[None] | None = None
        self._answers: list[Verdicts] = []

    async def verdicts(self, properties: msgspec.Raw, instances: Sequence[Description]) -> list[Verdicts]:
        """The reports that have arrived since the last call. Starts a round of probes unless one is under way."""
        if self._round is None and instances:
            self._round = asyncio.get_running_loop().create_task(self._ask(properties, instances))
        if self._round is not None:
            await asyncio.wait({self._round}, timeout=WAIT_S)
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
    """Polls one flavor for the changes that the member list of one group needs."""

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
            self._patient_until = loop.time() + WAIT_S

    async def answer(self) -> Needs | None:
        """The answer, or None while the question is under way; waits for `WAIT_S` after it began."""
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
        raise errors.PluginError(f"the needed membership changes are not a sequence of changes, but {needs!r}")


def _unknown(error: Exception) -> HealthReport:
    return HealthReport(health=Health.UNKNOWN, note=_why(error))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the flavor did not answer within {DEADLINE_S:.0f} s"
    return f"the flavor failed: {error}"
