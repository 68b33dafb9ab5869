"""Polls the flavor for health and for the changes that its member list needs, beside the reconcile cycle.

A slow probe delays only its own result: a cycle waits at most `WAIT_S` and takes the reports that have arrived, each
with the time at which it was requested; the others arrive in later cycles. A timeout and any error count as unknown.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from infrakit.spi import errors
from infrakit.spi.flavor import Flavor, JudgesMany, Members, MembershipChange
from infrakit.spi.values import Allocation, Description, Health, HealthReport, InstanceID

WAIT_S = 0.5
DEADLINE_S = 30.0
AT_ONCE_MAX = 64

# Results with the loop time in seconds at which they were requested; a text is the reason why they are unknown.
Verdicts = tuple[float, Mapping[InstanceID, HealthReport]]
Needs = tuple[float, Sequence[MembershipChange] | str]


T = TypeVar("T")


class HealthProber:
    """Polls one flavor for the health of the members of one group."""

    def __init__(self, flavor: Flavor) -> None:
        self._flavor = flavor
        self._round: asyncio.Task[None] | None = None
        self._results: list[Verdicts] = []

    async def verdicts(self, properties: msgspec.Raw, instances: Sequence[Description]) -> list[Verdicts]:
        """Return the reports that arrived since the last call. Starts a round of probes unless one is in progress."""
        if self._round is None and instances:
            self._round = asyncio.get_running_loop().create_task(self._probe(properties, instances))
        if self._round is not None:
            await asyncio.wait({self._round}, timeout=WAIT_S)
            if self._round.done():
                self._round = None
        results, self._results = self._results, []
        return results

    async def _probe(self, properties: msgspec.Raw, instances: Sequence[Description]) -> None:
        if isinstance(self._flavor, JudgesMany):
            requested_at = asyncio.get_running_loop().time()
            reports = await self._probe_all(self._flavor, properties, instances)
            self._results.append((requested_at, reports))
            return
        limit = asyncio.Semaphore(AT_ONCE_MAX)

        async def probe(instance: Description) -> None:
            async with limit:
                requested_at = asyncio.get_running_loop().time()
                report = await self._probe_one(properties, instance)
                self._results.append((requested_at, {instance.id: report}))

        async with asyncio.TaskGroup() as tasks:
            for instance in instances:
                tasks.create_task(probe(instance))

    async def _probe_all(
        self, flavor: JudgesMany, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await flavor.healthy_all(properties=properties, instances=instances)
        except Exception as error:
            return dict.fromkeys((i.id for i in instances), _unknown(error))

    async def _probe_one(self, properties: msgspec.Raw, instance: Description) -> HealthReport:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._flavor.healthy(properties=properties, instance=instance)
        except Exception as error:
            return _unknown(error)

    async def close(self) -> None:
        """Cancel the round in progress."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait({self._round})


class Poll(Generic[T]):
    """One request at a time, beside the reconcile cycle, which waits for it at most `WAIT_S` after it started."""

    def __init__(self) -> None:
        self._poll: asyncio.Task[T] | None = None
        self._wait_until = 0.0

    def begin(self, request: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Start a poll unless one is in progress."""
        if self._poll is None:
            loop = asyncio.get_running_loop()
            self._poll = loop.create_task(request())
            self._wait_until = loop.time() + WAIT_S

    async def result(self) -> T | None:
        """Return the result, or None while the poll is in progress; waits until `WAIT_S` after the poll started."""
        if self._poll is None:
            return None
        timeout_s = self._wait_until - asyncio.get_running_loop().time()
        await asyncio.wait({self._poll}, timeout=max(0.0, timeout_s))
        if not self._poll.done():
            return None
        result, self._poll = self._poll.result(), None
        return result

    async def close(self) -> None:
        """Cancel the poll in progress."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait({self._poll})


class MembershipProber(Poll[Needs]):
    """Polls one flavor for the changes that the member list of one group needs."""

    def start(
        self, flavor: Members, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> None:
        """Start a poll unless one is in progress."""
        self.begin(lambda: _needs(flavor, properties, instances, allocation))


async def _needs(
    flavor: Members, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
) -> Needs:
    requested_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(DEADLINE_S):
            needs = await flavor.membership(properties=properties, instances=instances, allocation=allocation)
        _check(needs)
    except Exception as error:
        return requested_at, why(error)
    return requested_at, needs


def _check(needs: object) -> None:
    """Raise `PluginError` unless this is a sequence of membership changes."""
    if not isinstance(needs, Sequence) or not all(isinstance(each, MembershipChange) for each in needs):
        raise errors.PluginError(f"the needed membership changes are not a sequence of changes, but {needs!r}")


def _unknown(error: Exception) -> HealthReport:
    return HealthReport(health=Health.UNKNOWN, note=why(error))


def why(error: Exception) -> str:
    """Return why a poll of the flavor has failed."""
    if isinstance(error, TimeoutError):
        return f"the flavor did not answer within {DEADLINE_S:.0f} s"
    return f"the flavor failed: {error}"
