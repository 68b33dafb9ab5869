"""One provider account: its listings are shared, and its calls are bounded, by all groups that use it.

Throttling is not a failure: it makes the whole account slower (half as many calls at once, none until the provider's
own delay has passed, doubled for each time in a row, with jitter), and success makes it faster again, one call at a
time. The delay must grow: otherwise the listings alone take what the provider grants, and nothing is ever created.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from infrakit.group.durations import Durations
from infrakit.group.state.backoff import BackoffPolicy
from infrakit.spi import errors, values
from infrakit.spi.instance import Capabilities, Capable, Inspects, Instance, Logs, Volumes, Watches
from infrakit.spi.values import Description, GroupID, InstanceID

DESCRIBE_DEADLINE_S = 60.0
THROTTLE_MAX_S = 60.0  # unless the provider itself asks for more
CONSECUTIVE_THROTTLES_MAX = 10
HINTS_MAX = 1000


class Caller(Protocol):
    """The executor of one group, which has calls to make."""

    def urgency(self) -> int | None:
        """The priority of its most urgent call, lowest first; None: nothing to do."""
        ...

    def start_next(self) -> None:
        """Begin that call."""
        ...


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One complete answer, split by group."""

    begun_at: float
    everything: Sequence[Description]
    by_group: Mapping[str, Sequence[Description]]  # the groups that it can answer for


class Account:
    """A provider, with everything that its groups share."""

    def __init__(
        self, name: str, instance: Instance, *, random: random.Random, capabilities: Capabilities | None = None
    ) -> None:
        self.name = name
        self.instance = instance
        self.capabilities = capabilities or Capabilities()
        self.outdated = False  # the provider has restarted with other capabilities than its groups rely on
        self._promised = self._promises()
        self.in_flight = 0
        self.throttled_until = 0.0
        self.took = {call: Durations() for call in ("describe", "provision", "destroy")}  # by the provider
        self.limits: dict[GroupID, int] = {}  # calls at once, as each group declares it; the lowest holds
        self._window: float = 1e9  # calls at once, reduced by throttling
        self._consecutive_throttles = 0  # in a row, less the calls that succeeded since
        self._random = random
        self._callers: list[Caller] = []
        self._wakers: list[Callable[[str], None]] = []
        self._hints: dict[str, str] = {}  # by ID, the oldest first
        self._latest: Listing | None = None
        self._describing: asyncio.Task[Listing] | None = None

    # -- what it promises ----------------------------------------------------------------------------------------------

    @property
    def inspects(self) -> Inspects | None:
        """The provider, if it can inspect a single instance."""
        return self.instance if isinstance(self.instance, Inspects) else None

    @property
    def volumes(self) -> Volumes | None:
        """The provider, if it can delete attachments."""
        return self.instance if isinstance(self.instance, Volumes) else None

    def _promises(self) -> tuple[int, bool]:
        """Which life of the plugin we know (one in another process may have had several), and if it can inspect."""
        return getattr(self.instance, "incarnation", 0), self.inspects is not None

    async def _check_promises(self) -> None:
        """Raise `Unreachable` if a plugin has returned with others: nothing may be concluded by the old ones."""
        if self._promises() != self._promised:
            provider = self.instance
            promised = await provider.capabilities() if isinstance(provider, Capable) else Capabilities()
            known, self._promised = self._promised, self._promises()
            if (promised, self._promised[1]) != (self.capabilities, known[1]):
                self.capabilities, self.outdated = promised, True
        if self.outdated:
            raise errors.Unreachable(
                f"{self.name} has restarted with other capabilities", remedy="its groups are observed anew at once"
            )

    # -- who takes part --------------------------------------------------------------------------------------------

    def join(self, group: GroupID, caller: Caller, wake: Callable[[str], None]) -> None:
        """A group begins to use the account."""
        self.limits[group] = 1
        self._callers.append(caller)
        self._wakers.append(wake)

    def leave(self, group: GroupID, caller: Caller, wake: Callable[[str], None]) -> None:
        """A group ends."""
        self.limits.pop(group, None)
        self._callers.remove(caller)
        self._wakers.remove(wake)

    async def watch(self) -> None:
        """Wake every group when the provider hints at a change; for providers that can."""
        if not isinstance(self.instance, Watches):
            return
        while True:
            with contextlib.suppress(Exception):
                async for hint in self.instance.watch():
                    self._heed(hint)
                    for wake in list(self._wakers):
                        wake(hint)
            await asyncio.sleep(1.0)  # the watch broke: polling continues meanwhile

    def _heed(self, hint: str) -> None:
        """Hints are free text. Those that begin with an ID are as good an explanation as there is."""
        instance, _, what = hint.partition(" ")
        self._hints.pop(instance, None)
        self._hints[instance] = what
        if len(self._hints) > HINTS_MAX:
            del self._hints[next(iter(self._hints))]

    def death(self, instance: InstanceID) -> tuple[str, str]:
        """The provider's last hint about a terminated instance, if any; and the command that shows its log."""
        hint = self._hints.pop(instance, "")
        cause = f": it {hint}" if hint else ""
        return cause, f"; see infrakit instance logs {instance}" if isinstance(self.instance, Logs) else ""

    # -- calls -----------------------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """Calls at once."""
        return max(1, min(int(self._window), min(self.limits.values(), default=1)))

    def dispatch(self) -> None:
        """Start calls, the most urgent first, turn by turn between groups, while there is room."""
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
        """A call has ended."""
        self.in_flight -= 1
        if ok:
            self._consecutive_throttles = max(0, self._consecutive_throttles - 1)
        if ok and self._window < min(self.limits.values(), default=1):
            self._window += 1.0
        self.dispatch()

    def throttle(self, after_s: float) -> bool:
        """The provider throttles. True: it is the first of the calls under way that reports it."""
        loop = asyncio.get_running_loop()
        first = loop.time() >= self.throttled_until  # the calls under way count once
        if first:
            self._window = max(1.0, min(self._window, float(self.in_flight or 1)) / 2)
            forgotten = loop.time() > self.throttled_until + THROTTLE_MAX_S
            self._consecutive_throttles = (
                1 if forgotten else min(self._consecutive_throttles + 1, CONSECUTIVE_THROTTLES_MAX)
            )
        policy = BackoffPolicy(first_s=max(0.05, after_s), longest_s=THROTTLE_MAX_S)
        delay_s = max(after_s, policy.delay_s(max(1, self._consecutive_throttles))) * (1.0 + self._random.random() / 2)
        if loop.time() + delay_s > self.throttled_until:
            self.throttled_until = loop.time() + delay_s
            loop.call_at(self.throttled_until, self.dispatch)
        return first

    # -- listings --------------------------------------------------------------------------------------------------

    async def listing(self, group: GroupID, *, not_before: float) -> tuple[Sequence[Description], float]:
        """The group's instances from a complete listing begun at `not_before` or later, and when it began.

        Several groups asking at the same time share one call. Raises what the provider raises; nothing is cached then.
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

    async def _describe(self, group: GroupID) -> Listing:
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        if begun_at < self.throttled_until:
            await asyncio.sleep(self.throttled_until - begun_at)
            begun_at = loop.time()
        alone = len(self._callers) == 1
        try:
            async with asyncio.timeout(DESCRIBE_DEADLINE_S):
                with self.took["describe"].timed():
                    everything = await self.instance.describe_instances(tags={values.TAG_GROUP: group} if alone else {})
                await self._check_promises()
        except errors.Throttled as throttled:
            self.throttle(throttled.after_s)
            raise
        except TimeoutError:
            raise errors.Unreachable(
                f"{self.name} did not list its instances within {DESCRIBE_DEADLINE_S:.0f} s"
            ) from None
        if self._latest is None or everything is not self._latest.everything:
            _check(everything)
        if alone:
            return Listing(begun_at=begun_at, everything=everything, by_group={group: everything})
        return Listing(begun_at=begun_at, everything=everything, by_group=self._split(everything))

    def _split(self, everything: Sequence[Description]) -> Mapping[str, Sequence[Description]]:
        latest = self._latest
        if latest is not None and latest.everything is everything and latest.by_group.keys() == self.limits.keys():
            return latest.by_group
        groups: dict[str, list[Description]] = {group: [] for group in self.limits}
        for description in everything:
            members = groups.get((description.tags or {}).get(values.TAG_GROUP, ""))
            if members is not None:
                members.append(description)
        return groups

    async def close(self) -> None:
        """End the listing under way, if any."""
        if self._describing is not None:
            self._describing.cancel()
            await asyncio.wait({self._describing})


def _check(listing: object) -> None:
    """Raise `PluginError` unless it is what a listing must be: nothing may be concluded from anything else."""
    if not isinstance(listing, Sequence) or not all(isinstance(each, Description) for each in listing):
        raise errors.PluginError(f"its listing is no sequence of descriptions, but {type(listing).__name__}")
