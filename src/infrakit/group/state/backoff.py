"""Exponential back-off: repeated failures of one slot, instance or membership change, and when to retry."""

import math
from collections.abc import Callable

import msgspec

EXPONENT_MAX = 30  # beyond it every delay is the longest one, and powers of two would overflow


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Failures in a row."""

    count: int
    retry_at: float
    why: str  # the newest failure
    version: str = ""  # of the slot's configuration: failures of another version do not count

    def is_pending(self, now: float) -> bool:
        """Whether the retry is still to be waited for."""
        return self.retry_at > now


class BackoffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait: `first_s` after the first failure, doubled for each further one, `longest_s` at most."""

    first_s: float
    longest_s: float = math.inf
    jitter: Callable[[], float] = lambda: 1.0  # a factor around 1, so that retries of many do not coincide

    def delay_s(self, failures: int) -> float:
        """How long to wait after so many failures; 0 failures need no wait."""
        if failures < 1:
            return 0.0
        return min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, EXPONENT_MAX)) * self.jitter()
