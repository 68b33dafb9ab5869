"""An event loop with virtual time: when nothing is ready, it jumps to the next timer instead of waiting.

Runs are deterministic, and half an hour of simulated time costs only the work of its wake-ups. When nothing is
scheduled at all, nothing can ever happen again: the loop raises `Deadlock` instead of waiting forever.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_S = 1_800_000_000.0  # wall-clock time at the start of every run


class Deadlock(Exception):
    """No callback is ready and no timer is scheduled, so the run can never continue."""


class _Selector(selectors.SelectSelector):
    """A selector that never blocks: it advances the virtual time by the timeout and returns."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing is ready and nothing is scheduled")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` is virtual and starts at 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class VirtualClock:
    """A wall clock that advances with the virtual time of the running loop."""

    def now(self) -> float:
        return EPOCH_S + asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to completion in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
