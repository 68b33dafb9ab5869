"""Calls between simulated processes: the request is sent to another event loop, and the response is sent back.

Both may be delayed or lost. A call that the caller cancels keeps running on the other side. A link that is cut either
refuses calls at once or drops all messages. Some dropped messages are delivered after the cut, as a network retransmits
them. No message arrives later than `LATE_S` after it was sent, so a call is over two minutes after its start.
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

TRAVEL_S = 0.002  # maximum latency of one direction
LATE_S = 60.0

Message = Callable[[], object]


class Link:
    """The connection from one process to another: `here` sends requests, `there` responds."""

    def __init__(self, timeline: Timeline, here: SteppedLoop, there: SteppedLoop, rng: random.Random) -> None:
        self.slow_s = 0.0  # maximum additional latency of one direction
        self.late = 0  # number of messages that were delivered after a cut
        self._timeline = timeline
        self._here = here
        self._there = there
        self._rng = rng
        self._cut: str = ""  # "refusing", "dropping", or empty for a working link
        self._dropped: list[tuple[float, SteppedLoop, Message]] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._streams: dict[asyncio.Queue[Any], None] = {}

    # -- faults ----------------------------------------------------------------------------------------------------

    def cut(self, *, refusing: bool) -> None:
        """Cut the link: refuse new calls, or drop all messages silently."""
        self._cut = "refusing" if refusing else "dropping"
        if refusing:
            self._break_streams()

    def heal(self) -> None:
        """Restore the link. Each dropped message is delivered now or never."""
        if not self._cut:
            return
        self._cut = ""
        self._break_streams()
        dropped, self._dropped = self._dropped, []
        for sent_at, to, message in dropped:
            if self._timeline.now - sent_at < LATE_S and self._rng.random() < 0.5:
                self.late += 1
                self._deliver(to, message)

    def _break_streams(self) -> None:
        for queue in self._streams:
            queue.put_nowait(errors.Unreachable("the connection broke", where="network"))

    # -- messages --------------------------------------------------------------------------------------------------

    def _send(self, to: SteppedLoop, message: Message) -> None:
        if self._cut:
            self._dropped.append((self._timeline.now, to, message))
        else:
            self._deliver(to, message)

    def _deliver(self, to: SteppedLoop, message: Message) -> None:
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
        """Call a method on the other side and return its result. Raises what the method raises, or `Unreachable`."""
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
        except Exception as raised:  # noqa: BLE001 - every exception belongs to the caller
            error = raised
        if self._cut == "refusing":
            error = errors.OutcomeUnknown("connection reset", where="network")
            self._deliver(self._here, lambda: _settle(answer, None, error))
        elif error is not None:
            self._send(self._here, lambda: _settle(answer, None, error))
        else:
            self._send(self._here, lambda: _settle(answer, result, None))

    async def stream(self, method: Callable[..., AsyncIterator[T]], *args: Any, **arguments: Any) -> AsyncIterator[T]:
        """Yield what the remote method yields until the link breaks. Raises what it raises, or `Unreachable`."""
        if not self._reachable():
            raise errors.Unreachable("connection refused", where="network")
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._streams[queue] = None
        self._send(self._there, lambda: self._serve(self._forward(method(*args, **arguments), queue)))
        try:
            while True:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self._streams.pop(queue, None)

    async def _forward(self, source: AsyncIterator[Any], queue: asyncio.Queue[Any]) -> None:
        try:
            async for item in source:
                if queue not in self._streams or self._here.killed:
                    return
                self._send(self._here, functools.partial(queue.put_nowait, item))
        except Exception as error:  # noqa: BLE001 - every exception belongs to the caller
            self._send(self._here, functools.partial(queue.put_nowait, error))


def _settle(answer: asyncio.Future[T], result: T | None, error: Exception | None) -> None:
    if answer.done():  # the caller has given up
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(cast(T, result))


def remote(target: T, link: Link) -> T:
    """Return a proxy that calls the asynchronous methods and iterators of `target` over the link, and has no others."""
    return cast(T, _Remote(target, link))


class _Remote:
    """A proxy with instance attributes as methods, so that `isinstance` finds the Protocols of the target."""

    def __init__(self, target: object, link: Link) -> None:
        for name in dir(type(target)):
            method = getattr(type(target), name)
            if name.startswith("_"):
                continue
            if inspect.iscoroutinefunction(method):
                setattr(self, name, functools.partial(link.call, getattr(target, name)))
            elif inspect.isasyncgenfunction(method):
                setattr(self, name, functools.partial(link.stream, getattr(target, name)))
