"""Fencing: whether this replica may start a call that changes infrastructure right now (laws 1 and 9).

Three conditions must hold, and all expire. Its node was observed to lead, and that observation is still valid. The
newest epoch in the store was its own, as of a read or write that *started* at most `bound_s` ago. And as of a read that
started at most `bound_s` ago, it acts by the newest declaration, with every halt that is durable. After the next leader
acquires its epoch, it waits for that bound before its first call. So the calls of two epochs never interleave, even if
a process is paused for any time between two of its steps. All times are those of the event loop, in seconds.
"""

import asyncio
import math
from collections.abc import Callable

from infrakit.spi import errors

BOUND_S = 0.1  # maximum age of a proof; with a slow store, a replica first records a longer one, then relies on it
BOUND_S_MAX = 10.0
TIMER_S = 0.001  # how early a timer may fire
DRIFT = 1.1  # clock drift: two clocks measure the same duration within a tenth of each other


class Fence:
    """The fencing check of one epoch, or of none yet."""

    def __init__(self, leads_until: Callable[[], float]) -> None:
        self.bound_s = BOUND_S
        self.lost = "it has not become active"
        self._leads_until = leads_until
        self._proven_at = -math.inf
        self._current_at = -math.inf
        self._free_at = math.inf

    def acquire(self, *, previous_bound_s: float) -> None:
        """Record a newly acquired epoch: calls are allowed once the last proof of the previous leader has expired."""
        self.lost = ""
        self._free_at = _now() + min(previous_bound_s, BOUND_S_MAX) * DRIFT

    def proven(self, begun_at: float) -> None:
        """Record a proof: a read or write started at `begun_at` has shown that this replica holds the epoch."""
        self._proven_at = max(self._proven_at, begun_at)

    def current(self, begun_at: float) -> None:
        """Record that this replica acts by the newest declaration, as of a read that started at `begun_at`."""
        self._current_at = max(self._current_at, begun_at)

    def lose(self, why: str) -> None:
        """Give up the epoch permanently: a fence never allows calls again after that."""
        self.lost = self.lost or why

    @property
    def age_s(self) -> float:
        """The age of the newest proof of the epoch."""
        return _now() - self._proven_at

    @property
    def _age_of_both_s(self) -> float:
        return _now() - min(self._proven_at, self._current_at)

    def is_fresh(self) -> bool:
        """Whether at least half of the proof's lifetime is left, so that no new proof is needed."""
        return self._age_of_both_s <= self.bound_s / 2

    async def wait_for_previous(self) -> None:
        """Wait until the previous leader can no longer start a call."""
        self.check_epoch()
        left_s = self._free_at - _now()
        if left_s > 0:
            await asyncio.sleep(left_s + TIMER_S)

    def check_epoch(self) -> None:
        """Raise `NotLeader` once the epoch is lost, or the last observation of leadership has expired."""
        if self.lost:
            raise errors.NotLeader(f"this replica may not act: {self.lost}")
        if _now() >= self._leads_until():
            raise errors.NotLeader("this replica may not act: its last leadership observation has expired")

    def check(self) -> None:
        """Raise `NotLeader` as `check_epoch` does, and if the newest proof is older than `bound_s`."""
        self.check_epoch()
        if _now() < self._free_at or self._age_of_both_s > self.bound_s:
            age_s = self._age_of_both_s
            raise errors.NotLeader(f"this replica may not act: its epoch and halts were not proven for {age_s:.2f} s")

    async def guard_leadership(self) -> None:
        """Never return; raise `NotLeader` as soon as the last observation of leadership has expired."""
        while True:
            self.check_epoch()
            await asyncio.sleep(max(0.0, self._leads_until() - _now()))


def _now() -> float:
    return asyncio.get_running_loop().time()
