"""The interface through which `up` shows status and events; its caller implements it."""

from collections.abc import Sequence
from typing import Protocol

from infrakit.spi.event import Event
from infrakit.spi.manager import MemberStatus, Status


class View(Protocol):
    """Called from the event loop, so it must not block; printing is fine."""

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:
        """Show the current status. Called a few times per second."""
        ...

    def event(self, event: Event) -> None:
        """Show a new event."""
        ...
