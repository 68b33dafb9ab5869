"""One provider account: all groups that use it share its listings and its limit of concurrent calls.

Throttling is not a failure. It slows the whole account down: concurrency is halved, and no call starts until the
provider's own delay has passed, doubled for each consecutive throttling, with jitter. Each success adds one concurrent
call again. Without the growing delay, the listings alone could use up the provider's rate limit, and no creation would
ever succeed.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from infrakit.group import listing as listings
from infrakit.group.durations import Durations
from infrakit.group.state.backoff import BackoffPolicy
from infrakit.spi import errors, values
from infrakit.spi.instance import Capabilities, Capable, Inspects, Instance, Logs, Volumes, Watches
from infrakit.spi.values import Description, GroupID, InstanceID

DESCRIBE_DEADLINE_S = 60.0
THROTTLE_MAX_S = 60.0  # unless the provider requests a longer delay
CONSECUTIVE_THROTTLES_MAX = 10
HINTS_MAX = 1000


class Caller(Protocol):
    """The executor of one group, as the account sees it: a queue of calls."""

    def urgency(self) -> int | None:
        """The priority of the most urgent queued call; lower is more urgent. None: the queue is empty."""
        ...

    def start_next(self) -> None:
        """Start the most urgent queued call."""
        ...


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one complete listing, split by group."""

    begun_at: float  # loop time at which the listing started
    everything: Sequence[Description]
    by_group: Mapping[str, Sequence[Description]]  # only groups that this listing covers
    foreign: Mapping[str, Sequence[Description]]  # of the same groups: live instances of other clusters
    clusters: Collection[str] | None  # whose instances were counted as this cluster's


class Account:
    """A provider, and the state that its groups share: capabilities, concurrency, rate limit, listings."""

    def __init__(
        self, name: str, instance: Instance, *, random: random.Random, capabilities: Capabilities | None = None
    ) -> None:
        self.name = name
        self.instance = instance
        self.capabilities = capabilities or Capabilities()
        self.clusters: Collection[str] | None = None  # whose instances belong to this cluster; None: all
        self.verify: Callable[[], Awaitable[None]] | None = None  # raises if this is another account than before
        self.outdated = False  # it has restarted with other capabilities than its groups use
        self._known_plugin = self._plugin_state()
        self.in_flight = 0
        self.throttled_until = 0.0
        self.call_durations = {call: Durations() for call in ("describe", "provision", "destroy")}
        self.limits: dict[GroupID, int] = {}  # MaxInFlight of each group; the lowest applies
        self.pets: set[GroupID] = set()  # groups whose logical IDs no instance of another group may have
        self._window: float = 1e9  # concurrent calls, reduced by throttling
        self._consecutive_throttles = 0  # decremented by each success
        self._random = random
        self._callers: list[Caller] = []
        self._wakers: list[Callable[[str], None]] = []
        self._hints: dict[str, str] = {}  # by instance ID, the oldest first
        self._latest: Listing | None = None
        self._describing: asyncio.Task[Listing] | None = None

    def timed(self, call: str) -> contextlib.AbstractContextManager[None]:
        """Measure a call of the provider, by the name of its method."""
        return self.call_durations[call].timed()

    # -- capabilities ----------------------------------------------------------------------------------------------

    @property
    def inspects(self) -> Inspects | None:
        """The provider, if it can inspect a single instance."""
        return self.instance if isinstance(self.instance, Inspects) else None

    @property
    def volumes(self) -> Volumes | None:
        """The provider, if it can delete attachments."""
        return self.instance if isinstance(self.instance, Volumes) else None

    def _plugin_state(self) -> tuple[int, bool]:
        """Identify the current plugin process, which may have restarted, and whether it can inspect."""
        return getattr(self.instance, "incarnation", 0), self.inspects is not None

    async def _check_capabilities(self) -> None:
        """Raise `Unreachable` if the plugin has restarted with other capabilities: its groups rely on the old ones."""
        if self._plugin_state() != self._known_plugin:
            provider = self.instance
            found = await provider.capabilities() if isinstance(provider, Capable) else Capabilities()
            known, self._known_plugin = self._known_plugin, self._plugin_state()
            if (found, self._known_plugin[1]) != (self.capabilities, known[1]):
                self.capabilities, self.outdated = found, True
        if self.outdated:
            raise errors.Unreachable(
                f"{self.name} has restarted with other capabilities", remedy="its groups are observed again immediately"
            )

    # -- groups ----------------------------------------------------------------------------------------------------

    def join(self, group: GroupID, caller: Caller, wake: Callable[[str], None]) -> None:
        """Register a group that uses the account."""
        self.limits[group] = 1
        self._callers.append(caller)
        self._wakers.append(wake)

    def leave(self, group: GroupID, caller: Caller, wake: Callable[[str], None]) -> None:
        """Unregister a group."""
        self.limits.pop(group, None)
        self.pets.discard(group)
        self._callers.remove(caller)
        self._wakers.remove(wake)

    async def watch(self) -> None:
        """Wake every group when the provider reports a change. Returns at once if the provider cannot watch."""
        if not isinstance(self.instance, Watches):
            return
        while True:
            with contextlib.suppress(Exception):
                async for hint in self.instance.watch():
                    self._record_hint(hint)
                    for wake in list(self._wakers):
                        wake(hint)
            await asyncio.sleep(1.0)  # the watch ended or failed; polling continues

    def _record_hint(self, hint: str) -> None:
        """Store a hint, which is free text. One that begins with an instance ID later explains a termination."""
        instance, _, what = hint.partition(" ")
        self._hints.pop(instance, None)
        self._hints[instance] = what
        if len(self._hints) > HINTS_MAX:
            del self._hints[next(iter(self._hints))]

    def termination_cause(self, instance: InstanceID) -> tuple[str, str]:
        """Return the last hint about a terminated instance, and the command that shows its log; each may be empty."""
        hint = self._hints.pop(instance, "")
        cause = f": it {hint}" if hint else ""
        return cause, f"; see infrakit instance logs {instance}" if isinstance(self.instance, Logs) else ""

    # -- calls -----------------------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """The maximum number of concurrent calls."""
        return max(1, min(int(self._window), min(self.limits.values(), default=1)))

    def dispatch(self) -> None:
        """Start queued calls up to the limit: the most urgent first, round-robin between groups."""
        loop = asyncio.get_running_loop()
        while self.in_flight < self.limit and loop.time() >= self.throttled_until:
            ready = [(u, i) for i, c in enumerate(self._callers) if (u := c.urgency()) is not None]
            if not ready:
                return
            _, index = min(ready)
            caller = self._callers.pop(index)
            self._callers.append(caller)
            self.in_flight += 1
            caller.start_next()

    def finished(self, *, ok: bool) -> None:
        """Record that a call has returned, and start the next ones. `ok`: the provider confirmed success."""
        self.in_flight -= 1
        if ok:
            self._consecutive_throttles = max(0, self._consecutive_throttles - 1)
        if ok and self._window < min(self.limits.values(), default=1):
            self._window += 1.0
        self.dispatch()

    def throttle(self, after_s: float) -> bool:
        """Slow down, because the provider throttled a call. True: it is the first of the calls in flight that was."""
        loop = asyncio.get_running_loop()
        first = loop.time() >= self.throttled_until  # calls in flight at the same time count once
        if first:
            self._window = max(1.0, min(self._window, float(self.in_flight or 1)) / 2)
            expired = loop.time() > self.throttled_until + THROTTLE_MAX_S
            self._consecutive_throttles = (
                1 if expired else min(self._consecutive_throttles + 1, CONSECUTIVE_THROTTLES_MAX)
            )
        policy = BackoffPolicy(first_s=max(0.05, after_s), longest_s=THROTTLE_MAX_S)
        delay_s = max(after_s, policy.delay_s(max(1, self._consecutive_throttles))) * (1.0 + self._random.random() / 2)
        if loop.time() + delay_s > self.throttled_until:
            self.throttled_until = loop.time() + delay_s
            loop.call_at(self.throttled_until, self.dispatch)
        return first

    # -- listings --------------------------------------------------------------------------------------------------

    async def listing(self, group: GroupID, *, not_before: float) -> tuple[Sequence[Description], float]:
        """Return the group's instances from a complete listing started at `not_before` or later, and its start time.

        Concurrent requests of several groups share one call. Raises what the provider raises; errors are not cached.
        """
        while self._latest is None or self._latest.begun_at < not_before or group not in self._latest.by_group:
            if self._describing is None or self._describing.done():
                self._describing = asyncio.get_running_loop().create_task(self._describe(group))
            task = self._describing
            await asyncio.wait({task})
            if (error := task.exception()) is not None:
                raise error
            self._latest = task.result()
        return self._latest.by_group[group], self._latest.begun_at

    def foreign(self, group: GroupID) -> Sequence[Description]:
        """Return the instances of other clusters with the group's tag, as the newest listing shows them.

        For pets also those of other groups that have a logical ID: a group that was freed, renamed, or divided.
        """
        return self._latest.foreign.get(group, ()) if self._latest is not None else ()

    @property
    def everything(self) -> Sequence[Description]:
        """The newest listing, with the instances of all groups that it covers."""
        return self._latest.everything if self._latest is not None else ()

    def own(self, clusters: Collection[str]) -> None:
        """Set whose instances belong to this cluster, from the next listing on."""
        if clusters != self.clusters:
            self.clusters = clusters
            for wake in list(self._wakers):
                wake("the ownership of instances has changed")

    async def _describe(self, group: GroupID) -> Listing:
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        if self.throttled_until - begun_at > DESCRIBE_DEADLINE_S:  # a cycle that waits so long seems to hang
            raise errors.Throttled("it has requested a long delay", after_s=0.0, where=self.name)
        if begun_at < self.throttled_until:
            await asyncio.sleep(self.throttled_until - begun_at)
            begun_at = loop.time()
        only_group = len(self._callers) == 1 and group not in self.pets
        try:
            async with asyncio.timeout(DESCRIBE_DEADLINE_S):
                if self.verify is not None:
                    await self.verify()
                with self.call_durations["describe"].timed():
                    tags = {values.TAG_GROUP: group} if only_group else {}
                    everything = await self.instance.describe_instances(tags=tags)
                await self._check_capabilities()
        except errors.Throttled as throttled:
            self.throttle(throttled.after_s)
            raise
        except TimeoutError:
            raise errors.Unreachable(
                f"{self.name} did not list its instances within {DESCRIBE_DEADLINE_S:.0f} s"
            ) from None
        if self._latest is None or everything is not self._latest.everything:
            listings.check(everything, provider=self.name)
        latest = self._latest
        covered = {group} if only_group else self.limits.keys()
        unchanged = latest is not None and latest.everything is everything and latest.clusters is self.clusters
        if latest is not None and unchanged and latest.by_group.keys() == covered:
            return msgspec.structs.replace(latest, begun_at=begun_at)
        by_group = {group: listings.of_group(everything, group)} if only_group else self._split(everything)
        foreign = {
            name: others for name, listed in by_group.items() if (others := listings.foreign(listed, self.clusters))
        }
        named = listings.named(everything) if self.pets else ()
        for name in self.pets & by_group.keys() if named else ():
            elsewhere = [each for each in named if (each.tags or {}).get(values.TAG_GROUP) != name]
            foreign[name] = (*foreign.get(name, ()), *elsewhere)
        return Listing(
            begun_at=begun_at,
            everything=everything,
            by_group={name: listings.without(listed, foreign.get(name, ())) for name, listed in by_group.items()},
            foreign=foreign,
            clusters=self.clusters,
        )

    def _split(self, everything: Sequence[Description]) -> Mapping[str, Sequence[Description]]:
        groups: dict[str, list[Description]] = {group: [] for group in self.limits}
        for description in everything:
            members = groups.get((description.tags or {}).get(values.TAG_GROUP, ""))
            if members is not None:
                members.append(description)
        return groups

    async def close(self) -> None:
        """Cancel the listing in progress, if any."""
        if self._describing is not None:
            self._describing.cancel()
            await asyncio.wait({self._describing})
