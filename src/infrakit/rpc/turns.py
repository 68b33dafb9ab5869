"""Limits the concurrent calls of one transport while they are short: thousands then share a few connections.

A connection costs both sides as much as a short call does. But how long a call will take is not known. So while calls
wait and only few end, the limit doubles again and again, until all have ended: if all calls in progress hang, the first
of a thousand others waits for `CHECK_S`, and the last for six times as long.
"""

import asyncio
import collections

SHARED = 16  # connections that short calls share
CHECK_S = 0.02  # calls are short if as many as these connections end in this time


class Turns:
    """How many calls are in progress, and those that wait for their turn. Each is an async context."""

    def __init__(self) -> None:
        self._limit = SHARED
        self._in_progress = 0
        self._ended = 0  # since the last check
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self.begin()

    async def __aexit__(self, *_: object) -> None:
        self.end()

    async def begin(self) -> None:
        """Wait for a turn. If it returns, `end` has to be called."""
        while self._in_progress >= self._limit:
            await self._wait(asyncio.get_running_loop())
        self._in_progress += 1

    def end(self) -> None:
        """End a turn. The next one begins."""
        self._in_progress -= 1
        self._ended += 1
        if not self._in_progress:
            self._limit = SHARED
        self._admit(1)

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = loop.create_future()
        self._waiting.append(turn)
        if self._timer is None:
            self._ended, self._timer = 0, loop.call_later(CHECK_S, self._check, loop)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._admit(1)  # another one in its place
            raise

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        """Admit more calls if those in progress are not short."""
        self._timer = None
        if not self._waiting:
            return
        if self._ended < SHARED:
            self._limit *= 2
            self._admit(self._limit - self._in_progress)
        self._ended, self._timer = 0, loop.call_later(CHECK_S, self._check, loop)

    def _admit(self, number: int) -> None:
        while self._waiting and number > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                number -= 1
