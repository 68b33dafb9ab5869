"""The original's interface to a manager, which its command line asks: who leads, and what is declared."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from infrakit.spi.controller import Spec


@runtime_checkable
class Stack(Protocol):
    """The original's Stack interface (0.1.1). What it only announces, and never had, is refused in its words."""

    async def is_leader(self) -> bool: ...

    async def leader_location(self) -> Mapping[str, Any] | None:
        """Where the leader is, in the fields of Go's `url.URL`; None if nobody knows."""
        ...

    async def specs(self) -> tuple[Spec, ...]:
        """What is declared, sorted by kind and name."""
        ...

    async def inspect(self) -> None:
        """Raises `Refused`."""
        ...

    async def enforce(self, *, specs: tuple[Spec, ...]) -> None:
        """Raises `Refused`."""
        ...

    async def terminate(self, *, specs: tuple[Spec, ...]) -> None:
        """Raises `Refused`."""
        ...
