"""The original's interface to a manager, used by its command line: the leader, and the declared objects."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from infrakit.spi.controller import Spec
from infrakit.spi.repeat import repeatable


@runtime_checkable
class Stack(Protocol):
    """The original's Stack interface (0.1.1). Methods that the original declares but never implemented are refused."""

    @repeatable
    async def is_leader(self) -> bool: ...

    @repeatable
    async def leader_location(self) -> Mapping[str, Any] | None:
        """Return the leader's URL, in the fields of Go's `url.URL`; None if it is unknown."""
        ...

    @repeatable
    async def specs(self) -> tuple[Spec, ...]:
        """Return what is declared, sorted by kind and name."""
        ...

    @repeatable
    async def inspect(self) -> None:
        """Raise `Refused`: the original never implemented it."""
        ...

    async def enforce(self, *, specs: tuple[Spec, ...]) -> None:
        """Raise `Refused`: the original never implemented it."""
        ...

    async def terminate(self, *, specs: tuple[Spec, ...]) -> None:
        """Raise `Refused`: the original never implemented it."""
        ...
