"""The wall clock, passed in from the outermost layer so that tests and simulations can substitute their own."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time. Durations inside a process are measured with the event loop's own monotonic clock."""

    def now(self) -> float:
        """Return the current time in seconds since 1970-01-01T00:00:00 UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()
