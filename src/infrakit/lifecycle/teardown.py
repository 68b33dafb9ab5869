"""The end of one group through its provider: asked again until a complete listing shows that nothing lives.

A provider that lists late is listed once more after that time: a creation may have been under way at the halt.
"""

import asyncio
from collections.abc import Callable

from infrakit.group.calls import CALL_DEADLINE_S
from infrakit.lifecycle.seed import GONE, LIST_DEADLINE_S
from infrakit.spi import errors, values
from infrakit.spi.flavor import Attaches
from infrakit.spi.group import Group
from infrakit.spi.instance import Capabilities, Capable, DestroyContext, Instance, Reason, Volumes
from infrakit.spi.values import Description, State

CALLS_MAX = 16  # at a time
POLL_S = 0.3
RETRY_S = 5.0  # before one that was told to end, and is listed still, is told again


class GroupTeardown:
    """Of one group."""

    def __init__(
        self, group: Group, instance: Instance, attaches: Attaches | None, report: Callable[[str], object]
    ) -> None:
        self.name = group.name
        self.plugin = group.properties.instance.plugin
        self.has_volumes = attaches is not None
        self._group = group
        self._instance = instance
        self._attaches = attaches
        self._report = report
        self._requested_at: dict[values.InstanceID, float] = {}  # to end, and when
        self._failures: dict[str, None] = {}  # each is told once
        self._announced = False

    async def machines(self) -> list[Description]:
        """All that live, or are about to end. Raises `Unreachable`, and what the provider raises."""
        try:
            async with asyncio.timeout(LIST_DEADLINE_S):
                listed = await self._instance.describe_instances(tags={values.TAG_GROUP: self.name})
        except TimeoutError:
            raise errors.Unreachable(f"no answer within {LIST_DEADLINE_S:g} s", where=f"plugin {self.plugin}") from None
        return [each for each in listed if each.state not in GONE]

    async def run(self, until: float) -> None:
        """Return when all are gone. Raises `Refused` with what is left at that time of the loop."""
        loop = asyncio.get_running_loop()
        while True:
            left = await self._destroy_rest(loop.time())
            if left == []:
                return
            if loop.time() >= until:
                failure = f" ({list(self._failures)[-1]})" if self._failures else ""
                names = ", ".join(each.id for each in left) if left else "what lives is not known"
                raise errors.Refused(
                    f"not gone when the time was up: {names}{failure}",
                    where=f"group {self.name}",
                    remedy="the same command goes on",
                )
            await asyncio.sleep(POLL_S)

    async def _destroy_rest(self, now: float) -> list[Description] | None:
        """What is left, told to end. None: that is not known."""
        try:
            left = await self.machines()
            if not self._announced:
                self._report(f"destroying {self.name}: {len(left)} instance{'s' * (len(left) != 1)}")
            self._announced = True
            if not left:
                await asyncio.sleep(await self._lag_s())
                left = await self.machines()
            await self._destroy([each for each in left if self._is_due(each, now)])
        except (errors.InfraKitError, TimeoutError) as error:
            failure = str(error) or "no answer in time"
            if failure not in self._failures:
                self._report(f"{self.name}: {failure}; tries again")
            self._failures[failure] = None
            if isinstance(error, errors.Throttled):
                await asyncio.sleep(error.after_s)
            return None
        return left

    async def _lag_s(self) -> float:
        if not isinstance(self._instance, Capable):
            return Capabilities().listing_lag_s
        async with asyncio.timeout(LIST_DEADLINE_S):
            return (await self._instance.capabilities()).listing_lag_s

    def _is_due(self, machine: Description, now: float) -> bool:
        return machine.state is not State.STOPPING and now - self._requested_at.get(machine.id, -RETRY_S) >= RETRY_S

    async def _destroy(self, machines: list[Description]) -> None:
        turns = asyncio.Semaphore(CALLS_MAX)
        results = await asyncio.gather(*(self._destroy_one(each, turns) for each in machines), return_exceptions=True)
        failed = [each for each in results if isinstance(each, BaseException)]
        for each in failed:
            raise each

    async def _destroy_one(self, machine: Description, turns: asyncio.Semaphore) -> None:
        async with turns:
            self._requested_at[machine.id] = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(CALL_DEADLINE_S):
                    await self._instance.destroy(instance=machine.id, context=DestroyContext(reason=Reason.TERMINATE))
            except errors.NotFound:
                pass  # the listing will tell
            except TimeoutError:
                what = f"no answer to the end of {machine.id} within {CALL_DEADLINE_S:g} s"
                raise errors.OutcomeUnknown(what, where=f"plugin {self.plugin}") from None

    async def delete_volumes(self) -> None:
        """Those of every declared logical ID, as far as flavor and provider know of any."""
        if self._attaches is None or not isinstance(self._instance, Volumes):
            return
        properties = self._group.properties
        held = await self._attaches.attachments(
            properties=properties.flavor.properties,
            allocation=properties.allocation.to_wire(),
        )
        for logical_id, attachments in held.items():
            for each in attachments:
                async with asyncio.timeout(CALL_DEADLINE_S):
                    await self._instance.delete_attachment(attachment=each)
                self._report(f"{each.type} {each.id} of {logical_id} is deleted")
