"""How long something took, time after time: a histogram, as monitoring reads it."""

import asyncio
import bisect
import contextlib
from collections.abc import Iterator

BOUNDS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class Durations:
    """Counts, one for each bound and one for all that took longer than the last; and the sum in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, took_s: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS_S, took_s)] += 1
        self.total_s += took_s

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time spent inside, however it ends."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            self.add(loop.time() - began)
