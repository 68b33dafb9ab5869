"""A histogram of durations, for monitoring."""

import asyncio
import bisect
import contextlib
from collections.abc import Iterator

BOUNDS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class Durations:
    """Counts of durations per bucket of `BOUNDS_S`, with one more bucket for longer ones, and their sum in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, took_s: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS_S, took_s)] += 1
        self.total_s += took_s

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the block and add its duration, even if it raises."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            self.add(loop.time() - began)
