"""One event loop per simulated process, all driven by one timeline, which alone knows the true time.

Each loop has its own clock, which drifts. A loop can be stalled, like a stopped process or a virtual machine that is
not scheduled: true time continues without it, and once resumed it runs what is due, in asyncio's order. A loop can also
be killed: none of its tasks takes another step, and nothing is cleaned up.
"""

import asyncio
import collections
import itertools
import math
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from infrakit.simulation.loop import EPOCH_S, Deadlock

T = TypeVar("T")

EARLY_S = 1e-7  # a timer may fire this early, so that rounding of a clock never schedules it twice
CLEANUP_STEPS_MAX = 10_000
ITERATIONS_MAX = 100_000  # without progress of the time


class Livelock(Exception):
    """A loop is permanently busy, so that time cannot advance."""


class Timeline:
    """The true time, and the loops in the order in which they run when due at the same time.

    The first loop is that of the world: its clock is exact, and it delivers messages between the others.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.over = False  # the run has finished; what still happens is ignored
        self.crash: BaseException | None = None  # an exception of a callback outside any task
        self._loops: list[SteppedLoop] = []
        self._running: list[SteppedLoop] = []  # loops that have not been killed
        self.world = self.loop()

    def loop(self, *, rate: float = 1.0, offset_s: float = 0.0) -> "SteppedLoop":
        """Create the loop of a new process. Its clock starts at `offset_s` and runs at `rate` times the true time."""
        loop = SteppedLoop(self, rate=rate, offset_s=offset_s)
        self._loops.append(loop)
        self._running.append(loop)
        return loop

    def run(self, done: Callable[[], object]) -> None:
        """Advance the time until `done` returns true. Raises `Deadlock`, or what a callback has raised."""
        while not done():
            due, next_loop = math.inf, None
            for loop in self._running:
                at = loop.due
                if at < due:
                    due, next_loop = at, loop
            if next_loop is None:
                raise Deadlock("nothing is ready and nothing is scheduled")
            self.now = max(self.now, due)
            next_loop.step()
            if self.crash is not None:
                raise self.crash

    def remove(self, loop: "SteppedLoop") -> None:
        """Stop scheduling a loop that has been killed."""
        self._running = [each for each in self._running if each is not loop]

    def close(self) -> None:
        """Shut down every loop, including killed ones. Effects of the cleanup are ignored."""
        self.over = True
        for loop in reversed(self._loops):
            loop.shut_down()


class _EmptySelector:
    """The selector of a loop without files and sockets: nothing is ever ready."""

    def select(self, _timeout: float | None) -> Sequence[Any]:
        return ()


class _Task(asyncio.Task[T]):
    """A task with a number as its hash: asyncio keeps tasks in sets, and memory addresses order those by chance."""

    def __init__(self, work: Coroutine[Any, Any, T], *, loop: "SteppedLoop", **options: Any) -> None:
        self._number = next(loop.numbers)
        super().__init__(work, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class SteppedLoop(asyncio.BaseEventLoop):
    """The event loop of one process."""

    _ready: collections.deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _run_once: Callable[[], None]
    _asyncgen_firstiter_hook: Any
    _asyncgen_finalizer_hook: Any

    def __init__(self, timeline: Timeline, *, rate: float, offset_s: float) -> None:
        super().__init__()
        self.rate = rate
        self.killed = False
        self._timeline = timeline
        self._offset_s = offset_s
        self._stalled = False
        self._iterations_left = math.inf
        self._unfinished: set[asyncio.Task[Any]] = set()
        self._selector = _EmptySelector()
        self._clock_resolution = EARLY_S
        self.numbers = itertools.count()  # of tasks
        self.set_task_factory(lambda _loop, work, **options: _Task(work, loop=self, **options))
        self.set_exception_handler(_note_crash)

    def time(self) -> float:
        return self._offset_s + self._timeline.now * self.rate

    def true_time(self, local_time: float) -> float:
        """The true time at which this loop's clock shows `local_time`."""
        return (local_time - self._offset_s) / self.rate

    # -- steps -----------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """The true time of the next step; infinity while the loop is stalled."""
        if self._stalled:
            return math.inf
        if self._ready:
            return self._timeline.now
        return self.true_time(self._scheduled[0].when()) if self._scheduled else math.inf

    def step(self) -> None:
        """Run everything that is due now.

        A signal handler, such as that of a test timeout, may raise after any call: the state of the thread is restored
        even then.
        """
        before, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()  # noqa: SLF001 - an event loop needs them
        try:
            asyncio._set_running_loop(self)  # noqa: SLF001
            sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
            self._run_once()
            for _iteration in range(ITERATIONS_MAX):
                if not self._ready or self._iterations_left <= 0:
                    break
                self._run_once()
                self._iterations_left -= 1
            else:
                raise Livelock(f"more than {ITERATIONS_MAX} iterations of a loop at {self._timeline.now:.3f} s")
            self._stalled = self._iterations_left <= 0
        finally:
            try:
                sys.set_asyncgen_hooks(*hooks)
            finally:
                asyncio._set_running_loop(before)  # noqa: SLF001

    def receive(self, callback: Callable[[], object]) -> None:
        """Deliver a message from another process. A stalled process runs it after it resumes, a killed one never."""
        if not self.killed:
            self.call_soon(callback)

    # -- faults ----------------------------------------------------------------------------------------------------

    def stall(self, *, after: int = 0) -> None:
        """Stall the loop now, or in the middle of its next work, after that many more iterations."""
        self._iterations_left = after
        self._stalled = after <= 0

    def resume(self) -> None:
        self._iterations_left, self._stalled = math.inf, False

    def kill(self) -> None:
        """Take no further step. The tasks are kept, because destroying a coroutine would run its cleanup."""
        if not self.killed:
            self._unfinished = asyncio.all_tasks(self)
            self.killed = True
            self._timeline.remove(self)

    def shut_down(self) -> None:
        """Cancel every task and let it clean up, after the run has finished."""
        self.killed = False
        self.resume()
        for _step in range(CLEANUP_STEPS_MAX):
            tasks = [task for task in asyncio.all_tasks(self) if not task.cancelling()]
            for task in tasks:
                task.cancel()
            due = self.due
            if due == math.inf:
                break
            self._timeline.now = max(self._timeline.now, due)
            try:
                self.step()
            except Livelock:
                break
            if not asyncio.all_tasks(self):
                break
        self._unfinished.clear()
        self.close()

    # -- interface of asyncio --------------------------------------------------------------------------------------

    def _process_events(self, _events: Sequence[Any]) -> None:
        """Do nothing: there are no file events."""

    def _write_to_self(self) -> None:
        """Do nothing: there is only one thread to wake up."""


def _note_crash(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Record a failed callback as a finding, but not what asyncio reports about tasks without a reader."""
    if isinstance(loop, SteppedLoop) and "handle" in context and loop._timeline.crash is None:  # noqa: SLF001
        loop._timeline.crash = context.get("exception")  # noqa: SLF001


class WallClock:
    """The wall clock of one machine, synchronised except for an error of `skew_s`."""

    def __init__(self, timeline: Timeline, *, skew_s: float = 0.0) -> None:
        self._timeline = timeline
        self.skew_s = skew_s

    def now(self) -> float:
        return EPOCH_S + self._timeline.now + self.skew_s
