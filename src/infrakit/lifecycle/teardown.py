"""Destroys one group through its provider, retrying until a complete listing shows no live instance.

A provider with a listing lag is listed once more after that lag: a creation may have been in flight at the halt.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from infrakit.gate.authority import NotBegun
from infrakit.gate.gate import CALL_DEADLINE_S, Gate
from infrakit.group import listing as listings
from infrakit.lifecycle.seed import LIST_DEADLINE_S, TERMINATED
from infrakit.spi import errors, values
from infrakit.spi.flavor import Attaches
from infrakit.spi.group import Group
from infrakit.spi.instance import Capabilities, Capable, DestroyContext, Instance, Reason, Volumes
from infrakit.spi.token import cluster_of
from infrakit.spi.values import Description, State

CALLS_MAX = 16  # concurrent calls
POLL_S = 0.3
RETRY_S = 5.0  # before the destruction of an instance that is still listed is requested again


class GroupTeardown:
    """Destroys all instances of one group, outside a leadership term."""

    def __init__(
        self, group: Group, instance: Instance, attaches: Attaches | None, report: Callable[[str], object]
    ) -> None:
        self.name = group.name
        self.plugin = group.properties.instance.plugin
        self.has_volumes = attaches is not None
        self.clusters: Collection[str] | None = None  # whose instances are destroyed; None: not known, so all
        self._group = group
        self._instance = instance
        self._attaches = attaches
        self._report = report
        self._requested_at: dict[values.InstanceID, float] = {}  # loop time of the last destroy request
        self._failures: dict[str, None] = {}  # each is reported once
        self._announced = False
        self._others: Sequence[Description] = ()  # instances of other clusters, as last listed

    async def machines(self) -> list[Description]:
        """All live and stopping instances of the clusters. Raises `Unreachable`, and what the provider raises."""
        try:
            async with asyncio.timeout(LIST_DEADLINE_S):
                listed = await self._instance.describe_instances(tags={values.TAG_GROUP: self.name})
        except TimeoutError:
            raise errors.Unreachable(f"no answer within {LIST_DEADLINE_S:g} s", where=f"plugin {self.plugin}") from None
        listings.check(listed, provider=self.plugin)
        listed = listings.of_group(listed, self.name)
        self._others = listings.foreign(listed, self.clusters)
        return [each for each in listings.without(listed, self._others) if each.state not in TERMINATED]

    async def run(self, until: float, gate: Gate) -> None:
        """Return when all instances have terminated. Raises `Refused` if some have not by loop time `until`."""
        loop = asyncio.get_running_loop()
        while True:
            left = await self._destroy_rest(loop.time(), gate)
            if left == []:
                return
            if loop.time() >= until:
                failure = f" ({list(self._failures)[-1]})" if self._failures else ""
                names = ", ".join(each.id for each in left) if left else "the live instances are unknown"
                raise errors.Refused(
                    f"not terminated within the timeout: {names}{failure}",
                    where=f"group {self.name}",
                    remedy="run the same command to continue",
                )
            await asyncio.sleep(POLL_S)

    async def _destroy_rest(self, now: float, gate: Gate) -> list[Description] | None:
        """Request the destruction of the remaining instances, and return them. None: unknown, because a call failed."""
        try:
            left = await self.machines()
            if not self._announced:
                self._report(f"destroying {self.name}: {len(left)} instance{'s' * (len(left) != 1)}")
                for each in self._others:
                    self._report(f"{each.id} is left: its token names the cluster {cluster_of(each.tags)}")
            self._announced = True
            if not left:
                await asyncio.sleep(await self._lag_s())
                left = await self.machines()
            await self._destroy([each for each in left if self._is_due(each, now)], gate)
        except NotBegun:
            raise
        except (errors.InfraKitError, TimeoutError) as error:
            failure = str(error) or "no answer in time"
            if failure not in self._failures:
                self._report(f"{self.name}: {failure}; retrying")
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

    async def _destroy(self, machines: list[Description], gate: Gate) -> None:
        limit = asyncio.Semaphore(CALLS_MAX)
        calls = [self._destroy_one(each, limit, gate) for each in machines]
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = [each for each in results if isinstance(each, BaseException)]
        for each in failed:
            raise each

    async def _destroy_one(self, machine: Description, limit: asyncio.Semaphore, gate: Gate) -> None:
        def begin() -> None:
            self._requested_at[machine.id] = asyncio.get_running_loop().time()

        context = DestroyContext(reason=Reason.TERMINATE)
        async with limit:
            try:
                await gate.destroy(self._instance, instance=machine.id, context=context, begin=begin)
            except errors.NotFound:
                pass  # the next listing shows whether it has terminated
            except TimeoutError:
                what = f"no answer to the destruction of {machine.id} within {CALL_DEADLINE_S:g} s"
                raise errors.OutcomeUnknown(what, where=f"plugin {self.plugin}") from None

    async def delete_volumes(self, gate: Gate) -> None:
        """Delete the volumes of every declared logical ID, as far as flavor and provider support volumes."""
        if self._attaches is None or not isinstance(self._instance, Volumes):
            return
        properties = self._group.properties
        attached = await self._attaches.attachments(
            properties=properties.flavor.properties,
            allocation=properties.allocation.to_wire(),
        )
        held = {each.logical_id for each in self._others}
        for logical_id, attachments in attached.items():
            if logical_id in held:
                self._report(f"volumes of {logical_id} are not deleted: an instance of another cluster may hold them")
                continue
            for each in attachments:
                await gate.delete_attachment(self._instance, attachment=each, begin=lambda: None)
                self._report(f"{each.type} {each.id} of {logical_id} is deleted")
