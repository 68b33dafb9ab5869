"""Calls between simulated processes: a request travels to another loop, the answer travels back.

Both may be delayed or lost. What is cancelled on this side goes on at the other. A line that is cut either refuses at
once, or swallows everything: then some of what was sent during the cut arrives after it, late, as the network sends it
again. Nothing arrives later than `LATE_S` after it was sent: a call may be assumed over two minutes after it was begun.
"""

import asyncio
import functools
import inspect
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar, cast

from infrakit.simulation.loops import SteppedLoop, Timeline
from infrakit.spi import errors

T = TypeVar("T")

TRAVEL_S = 0.002  # at the most, one way
LATE_S = 60.0

Message = Callable[[], object]


class Line:
    """What one process has to another; `here` asks, `there` answers."""

    def __init__(self, timeline: Timeline, here: SteppedLoop, there: SteppedLoop, rng: random.Random) -> None:
        self.slow_s = 0.0  # at the most, on top of every way
        self.late = 0  # messages that arrived after a cut
        self._timeline = timeline
        self._here = here
        self._there = there
        self._rng = rng
        self._cut: str = ""  # refusing, or swallowing
        self._swallowed: list[tuple[float, SteppedLoop, Message]] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._streams: dict[asyncio.Queue[Any], None] = {}

    # -- faults ----------------------------------------------------------------------------------------------------

    def cut(self, *, refusing: bool) -> None:
        """Nothing gets through from now on."""
        self._cut = "refusing" if refusing else "swallowing"
        if refusing:
            self._break_streams()

    def mend(self) -> None:
        """What was swallowed arrives now, or never."""
        if not self._cut:
            return
        self._cut = ""
        self._break_streams()
        swallowed, self._swallowed = self._swallowed, []
        for sent_at, to, message in swallowed:
            if self._timeline.now - sent_at < LATE_S and self._rng.random() < 0.5:
                self.late += 1
                self._carry(to, message)

    def _break_streams(self) -> None:
        for queue in self._streams:
            queue.put_nowait(errors.Unreachable("the connection broke", where="network"))

    # -- messages --------------------------------------------------------------------------------------------------

    def _send(self, to: SteppedLoop, message: Message) -> None:
        if self._cut:
            self._swallowed.append((self._timeline.now, to, message))
        else:
            self._carry(to, message)

    def _carry(self, to: SteppedLoop, message: Message) -> None:
        delay_s = self._rng.random() * (TRAVEL_S + self.slow_s)
        world = self._timeline.world
        if to is world:
            world.call_later(delay_s, message)
        else:
            world.call_later(delay_s, to.receive, message)

    def _reachable(self) -> bool:
        return not (self._timeline.over or self._there.killed or self._cut == "refusing")

    # -- calls -----------------------------------------------------------------------------------------------------

    async def call(self, method: Callable[..., Coroutine[Any, Any, T]], *args: Any, **arguments: Any) -> T:
        """Ask, and wait for the answer. Raises what the method raises, or `Unreachable`."""
        if not self._reachable():
            raise errors.Unreachable("connection refused", where="network")
        answer: asyncio.Future[T] = self._here.create_future()
        self._send(self._there, lambda: self._serve(self._answer(method(*args, **arguments), answer)))
        return await answer

    def _serve(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._there.create_task(work)
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _answer(self, work: Coroutine[Any, Any, T], answer: asyncio.Future[T]) -> None:
        error: Exception | None = None
        try:
            result = await work
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is the caller's
            error = raised
        if self._cut == "refusing":
            error = errors.OutcomeUnknown("connection reset", where="network")
            self._carry(self._here, lambda: _settle(answer, None, error))
        elif error is not None:
            self._send(self._here, lambda: _settle(answer, None, error))
        else:
            self._send(self._here, lambda: _settle(answer, result, None))

    async def stream(self, method: Callable[..., AsyncIterator[T]], *args: Any, **arguments: Any) -> AsyncIterator[T]:
        """What the method yields, as long as the line holds. Raises what it raises, or `Unreachable`."""
        if not self._reachable():
            raise errors.Unreachable("connection refused", where="network")
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._streams[queue] = None
        self._send(self._there, lambda: self._serve(self._pump(method(*args, **arguments), queue)))
        try:
            while True:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self._streams.pop(queue, None)

    async def _pump(self, source: AsyncIterator[Any], queue: asyncio.Queue[Any]) -> None:
        try:
            async for item in source:
                if queue not in self._streams or self._here.killed:
                    return
                self._send(self._here, functools.partial(queue.put_nowait, item))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self._send(self._here, functools.partial(queue.put_nowait, error))


def _settle(answer: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
    if answer.done():  # nobody waits for it any more
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(cast(T, result))


def remote(target: T, line: Line) -> T:
    """What `target` can do, asked over the line: its asynchronous methods and iterators, and nothing else."""
    return cast(T, _Remote(target, line))


class _Remote:
    """Its methods are attributes of its own, so that `isinstance` finds the Protocols that the target satisfies."""

    def __init__(self, target: object, line: Line) -> None:
        for name in dir(type(target)):
            method = getattr(type(target), name)
            if name.startswith("_"):
                continue
            if inspect.iscoroutinefunction(method):
                setattr(self, name, functools.partial(line.call, getattr(target, name)))
            elif inspect.isasyncgenfunction(method):
                setattr(self, name, functools.partial(line.stream, getattr(target, name)))
