"""An event loop whose time is virtual: when nothing is ready, it jumps to the next timer instead of waiting.

Runs are deterministic, and half an hour of simulated time costs what its wake-ups cost. When nothing is scheduled at
all, nothing can ever happen again: that is a deadlock, and it is raised instead of being waited for.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_S = 1_800_000_000.0  # the wall clock at the beginning of every run


class Deadlock(Exception):
    """Nothing is ready and nothing is scheduled."""


class _Selector(selectors.SelectSelector):
    """Never waits; what it is asked to wait for passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing is ready and nothing is scheduled")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class VirtualClock:
    """Wall-clock time in step with a virtual loop."""

    def now(self) -> float:
        return EPOCH_S + asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
