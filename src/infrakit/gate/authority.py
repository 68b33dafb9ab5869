"""Who may change infrastructure: a right that is proven again before each call (laws 1 and 9).

A leader acts in its epoch. A teardown acts from outside, under the halt that it has committed itself. Bootstrap and
recovery act while the store does not answer, because then no replica can hold an epoch.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Protocol

from infrakit.spi import errors
from infrakit.spi.manager import Halt

RECENT_S = 1.0  # how old the evidence of an actor without an epoch may be when a call begins


class Authority(Protocol):
    """The right to change the infrastructure of one group. Each kind of actor has its own."""

    async def prove(self) -> None:
        """Obtain evidence that is recent enough for `check`. Raises `Refused`, `Halted` or `NotLeader`."""
        ...

    def check(self) -> None:
        """Raise unless a call may begin at this moment. Called after `prove`, with no await between it and the call."""
        ...


class NotBegun(errors.Refused):
    """The gate did not admit a call: nothing was done. Plugins cannot raise it, so it is never confused with theirs."""

    @classmethod
    def because(cls, error: Exception) -> "NotBegun":
        """Wrap the error of an authority, with its sentence."""
        if isinstance(error, errors.InfraKitError):
            return cls(error.what, where=error.where, remedy=error.remedy)
        return cls(str(error) or type(error).__name__)


class Outdated(NotBegun):
    """A call that was planned for an earlier state: it is not made, and the actor decides again."""


class Epoch:
    """A leader: it holds the epoch (fencing check), and no halt applies to the group."""

    def __init__(self, fence: Authority, halt: Callable[[], Halt | None]) -> None:
        self._fence = fence
        self._halt = halt

    async def prove(self) -> None:
        await self._fence.prove()

    def check(self) -> None:
        halt = self._halt()
        if halt is not None:
            raise errors.Halted(f"halted by {halt.who}: {halt.why}")
        self._fence.check()


class _Recent:
    """Evidence that is valid for a short time after it has arrived: a silent store takes its whole timeout."""

    def __init__(self) -> None:
        self._proven_at = -math.inf
        self._turn = asyncio.Lock()

    @property
    def _is_recent(self) -> bool:
        return asyncio.get_running_loop().time() - self._proven_at <= RECENT_S

    async def prove(self) -> None:
        async with self._turn:  # concurrent calls share one proof
            if not self._is_recent:
                await self._request()
                self._proven_at = asyncio.get_running_loop().time()

    def check(self) -> None:
        if not self._is_recent:
            raise errors.Refused("the evidence that this command may act has expired", remedy="run it again")

    async def _request(self) -> None:
        raise NotImplementedError


class Teardown(_Recent):
    """A teardown from outside: the halt that it has committed must still be in force, as far as a replica answers.

    `halted` returns None if no replica answers: the teardown itself destroys them, and a halt that is not lifted lasts.
    """

    def __init__(self, halted: Callable[[], Awaitable[bool | None]]) -> None:
        super().__init__()
        self._halted = halted

    async def _request(self) -> None:
        if await self._halted() is False:
            raise errors.Halted(
                "the halt of the cluster was lifted, and its replicas act again: nothing more is destroyed from here",
                remedy="run the same command to halt it again and to continue",
            )


class StoreSilent(_Recent):
    """Bootstrap and recovery: the store must still be silent. Once it answers, its replicas act instead.

    `halted` is the error for a halt that was in force when the store was last read: nothing shows that it was lifted.
    """

    def __init__(self, answers: Callable[[], Awaitable[bool]], halted: errors.Halted | None = None) -> None:
        super().__init__()
        self._answers = answers
        self._halted = halted

    def check(self) -> None:
        if self._halted is not None:
            raise self._halted
        super().check()

    async def _request(self) -> None:
        if await self._answers():
            raise Outdated("the store answers now: nothing more is created from here")
