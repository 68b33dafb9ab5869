"""The fence: whether this replica may begin a call that changes infrastructure, at this very moment (law 1).

Two facts have to hold, and both age. Its node was observed to lead, for as long as that observation may be believed.
And the newest epoch in the store was its own, as of a read or write that *began* no longer than `bound_s` ago. Whoever
takes the next epoch waits that bound out before its own first call, so the calls of two epochs never interleave,
however long a process was paused between two of its steps. All times are the event loop's, in seconds.
"""

import asyncio
import math
from collections.abc import Callable

from infrakit.spi import errors

BOUND_S = 0.1  # how old a proof may be; a replica in front of a slow store allows itself more, and records it first
BOUND_S_MAX = 10.0
TIMER_S = 0.001  # by which a timer may be early
DRIFT = 1.1  # two clocks measure the same duration within a tenth of each other


class Fence:
    """For one epoch, or none yet."""

    def __init__(self, leads_until: Callable[[], float]) -> None:
        self.bound_s = BOUND_S
        self.lost = "it has not become active"
        self._leads_until = leads_until
        self._proven_at = -math.inf
        self._free_at = math.inf

    def acquire(self, *, previous_bound_s: float) -> None:
        """The epoch was taken a moment ago: from when the predecessor's last proof is too old, we may act."""
        self.lost = ""
        self._free_at = _now() + min(previous_bound_s, BOUND_S_MAX) * DRIFT

    def proven(self, begun_at: float) -> None:
        """A read or write that began then has shown that the epoch is ours."""
        self._proven_at = max(self._proven_at, begun_at)

    def lose(self, why: str) -> None:
        """For good: a fence is never raised again."""
        self.lost = self.lost or why

    @property
    def age_s(self) -> float:
        """Of the newest proof."""
        return _now() - self._proven_at

    @property
    def is_fresh(self) -> bool:
        """Whether the proof lasts for a while yet, so that nobody needs another one."""
        return self.age_s <= self.bound_s / 2

    async def wait_for_previous(self) -> None:
        """Wait until the predecessor can begin nothing any more."""
        self.check_epoch()
        left_s = self._free_at - _now()
        if left_s > 0:
            await asyncio.sleep(left_s + TIMER_S)

    def check_epoch(self) -> None:
        """Raises `NotLeader` once the epoch is known to be lost, or the node to lead no more."""
        if self.lost:
            raise errors.NotLeader(f"this replica may not act: {self.lost}")
        if _now() >= self._leads_until():
            raise errors.NotLeader("this replica may not act: it is not known any more that its node leads")

    def check(self) -> None:
        """Raises `NotLeader` as `check_epoch` does, and when the epoch was not proven a moment ago."""
        self.check_epoch()
        if _now() < self._free_at or self.age_s > self.bound_s:
            raise errors.NotLeader(f"this replica may not act: its epoch was not proven for {self.age_s:.2f} s")

    async def guard_leadership(self) -> None:
        """Return never, and raise `NotLeader` as soon as the last observation has expired."""
        while True:
            self.check_epoch()
            await asyncio.sleep(max(0.0, self._leads_until() - _now()))


def _now() -> float:
    return asyncio.get_running_loop().time()
