"""The leadership observer: it reports whether this replica's node leads the quorum. It never elects a leader."""

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import msgspec


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One observation of the leadership.

    `begun_at` is the loop time in seconds at which the query *began*, `valid_s` for how long the result may be trusted.
    """

    leader: bool | None  # None: unknown, which counts as not leading once the last observation has expired
    begun_at: float
    valid_s: float
    who: str = ""  # the leader's name in the source of leadership
    note: str = ""  # the reason, or why the leadership is unknown


class Leadership(Protocol):
    """A source of leadership observations."""

    def observe(self) -> AsyncIterator[Observation]:
        """Yield an observation before the last one expires (`valid_s`). An error yields one with `leader=None`."""
        ...


@runtime_checkable
class Resigns(Protocol):
    """An observer whose source supports a leadership transfer to another node."""

    async def resign(self) -> None:
        """Transfer the leadership. Raises `Refused` if no other node can lead, or the error that prevents the call."""
        ...
