"""One event loop per simulated process, all moved by one timeline, which alone knows the true time.

Each loop has a clock of its own, which drifts. A loop can be stalled, as by a stopped process or a virtual machine that
is not scheduled: true time goes on without it, and once resumed it does what has become due, in asyncio's order. And a
loop can be killed: none of its tasks takes another step, nothing is cleaned up.
"""

import asyncio
import collections
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from infrakit.simulation.loop import EPOCH_S, Deadlock

EARLY_S = 1e-7  # by which a timer may be early, so that no rounding of a clock makes it be waited for twice
AFTERLIFE_STEPS = 10_000
ITERATIONS_MAX = 100_000  # at one moment


class Livelock(Exception):
    """A loop is busy for ever, and time does not go on."""


class Timeline:
    """The true time, and the loops in the order in which they take their turns at the same moment.

    The first loop is the world's: its clock is right, and it carries messages between the others.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.over = False  # what still happens, happens unseen
        self.crash: BaseException | None = None  # a callback's, outside of any task
        self._loops: list[SteppedLoop] = []
        self._turns: list[SteppedLoop] = []  # those that live
        self.world = self.loop()

    def loop(self, *, rate: float = 1.0, offset_s: float = 0.0) -> "SteppedLoop":
        """A new process. Its clock shows `offset_s` at the beginning, and gains on the true time by `rate`."""
        loop = SteppedLoop(self, rate=rate, offset_s=offset_s)
        self._loops.append(loop)
        self._turns.append(loop)
        return loop

    def run(self, done: Callable[[], object]) -> None:
        """Let time pass until something holds. Raises `Deadlock`, or what a callback has raised."""
        while not done():
            due, turn = math.inf, None
            for loop in self._turns:
                at = loop.due
                if at < due:
                    due, turn = at, loop
            if turn is None:
                raise Deadlock("nothing is ready and nothing is scheduled")
            self.now = max(self.now, due)
            turn.step()
            if self.crash is not None:
                raise self.crash

    def dead(self, loop: "SteppedLoop") -> None:
        """It has no turn any more."""
        self._turns = [each for each in self._turns if each is not loop]

    def close(self) -> None:
        """End what is left in every loop, killed ones too, where nobody sees it."""
        self.over = True
        for loop in reversed(self._loops):
            loop.bury()


class _Nothing:
    """Where a loop looks for files and sockets that are ready: it has none."""

    def select(self, _timeout: float | None) -> Sequence[Any]:
        return ()


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
        self._left: set[asyncio.Task[Any]] = set()
        self._selector = _Nothing()
        self._clock_resolution = EARLY_S
        self.set_exception_handler(_note_crash)

    def time(self) -> float:
        return self._offset_s + self._timeline.now * self.rate

    def true(self, when: float) -> float:
        """The true time at which this loop's clock shows `when`."""
        return (when - self._offset_s) / self.rate

    # -- its turn --------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """The true time of its next step; never, while it is stalled."""
        if self._stalled:
            return math.inf
        if self._ready:
            return self._timeline.now
        return self.true(self._scheduled[0].when()) if self._scheduled else math.inf

    def step(self) -> None:
        """Do what is due now, until nothing is.

        A signal's handler may raise after any call, as that of a test's timeout does: the thread is put back even then.
        """
        before, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()  # noqa: SLF001 - the loop's own business
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
        """Something arrives from outside. A stalled process finds it when it goes on, a killed one never."""
        if not self.killed:
            self.call_soon(callback)

    # -- what befalls it -------------------------------------------------------------------------------------------

    def stall(self, *, after: int = 0) -> None:
        """Stop here, or in the middle of what it does next: after that many more iterations."""
        self._iterations_left = after
        self._stalled = after <= 0

    def resume(self) -> None:
        self._iterations_left, self._stalled = math.inf, False

    def kill(self) -> None:
        """It takes no further step. What it holds is kept, because the end of a coroutine would run its cleanup."""
        if not self.killed:
            self._left = asyncio.all_tasks(self)
            self.killed = True
            self._timeline.dead(self)

    def bury(self) -> None:
        """Let every task clean up after the end of the run."""
        self.killed = False
        self.resume()
        for _step in range(AFTERLIFE_STEPS):
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
        self._left.clear()
        self.close()

    # -- what an event loop needs ----------------------------------------------------------------------------------

    def _process_events(self, _events: Sequence[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""


def _note_crash(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback that fails is a finding; what asyncio says of tasks that nobody asked is not."""
    if isinstance(loop, SteppedLoop) and "handle" in context and loop._timeline.crash is None:  # noqa: SLF001
        loop._timeline.crash = context.get("exception")  # noqa: SLF001


class WallClock:
    """The wall clock of one machine, which others keep right but for `skew_s`."""

    def __init__(self, timeline: Timeline, *, skew_s: float = 0.0) -> None:
        self._timeline = timeline
        self._skew_s = skew_s

    def now(self) -> float:
        return EPOCH_S + self._timeline.now + self._skew_s
