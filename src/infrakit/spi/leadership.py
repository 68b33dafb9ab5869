"""The leadership observer: reports whether this replica's node leads the quorum. It never elects.

It is found by the scheme of its URL among the entry points of the group `infrakit.leadership`.
"""

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable
from urllib.parse import SplitResult

import msgspec


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One observation of who leads.

    `begun_at` is the loop time in seconds at which the query *began*, `valid_s` for how long the result may be trusted.
    """

    leader: bool | None  # None: unknown, which counts as not leading once the last observation has expired
    begun_at: float
    valid_s: float
    who: str = ""  # the leader's name, as the source knows it
    note: str = ""  # the reason, or why the leader is unknown


class Leadership(Protocol):
    """A stream of observations. If it has an `async def close()`, that is called when the daemon shuts down."""

    def observe(self) -> AsyncIterator[Observation]:
        """Yield an observation before the last one expires (`valid_s`). An error yields one with `leader=None`."""
        ...


@runtime_checkable
class Resigns(Protocol):
    """An observer whose source supports a leadership transfer to another node."""

    async def resign(self) -> None:
        """Transfer the leadership. Raises `Refused` if no other node can take it, or the error of the source."""
        ...


@runtime_checkable
class TakesOver(Protocol):
    """An observer whose source lets a node take the leadership from another one, which cannot give it up itself."""

    async def take_over(self, *, leader: str) -> None:
        """Move the leadership from the node `leader`, as observations name it, to this node.

        Does nothing if that node does not lead any more. Raises `Refused` if this node cannot lead, or the error of the
        source.
        """
        ...


@runtime_checkable
class LeadershipFactory(Protocol):
    """Opens the leadership sources of one URL scheme.

    An entry point of the group `infrakit.leadership` names it; the entry point's own name is the scheme. In most cases
    it is the class of the observer, with `from_url` as a class method and `accepts` as a static one.
    """

    form: str  # how a URL of this scheme is written, as errors show it: `file:///PATH`

    def accepts(self, url: SplitResult, /) -> bool:
        """Whether the URL names a source completely. Opens no files or connections, and needs no optional client."""
        ...

    def from_url(self, url: SplitResult, /, *, name: str) -> Leadership:
        """Return the observer for an accepted URL and the replica `name`. Raises `Refused`."""
        ...
