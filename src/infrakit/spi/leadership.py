"""The leadership observer: it tells whether this replica's node leads the quorum. It never elects."""

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import msgspec


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was seen, when looking *began* (loop time, seconds), and for how long it may be believed."""

    leader: bool | None  # None: unknown, which counts as not leading once the last answer is stale
    begun_at: float
    valid_s: float
    who: str = ""  # the name of who leads, as the source knows it
    note: str = ""  # why it is so, or why it is not known


class Leadership(Protocol):
    """A stream of observations."""

    def observe(self) -> AsyncIterator[Observation]:
        """Yields at least as often as `valid_s` demands; errors are observations with `leader=None`."""
        ...


@runtime_checkable
class Resigns(Protocol):
    """An observer whose source can be asked to let another node lead."""

    async def resign(self) -> None:
        """Give the leadership away. Raises `Refused` if nobody could take it, or what keeps the source away."""
        ...
