"""The interface through which `up` shows status and events; its caller implements it."""

from collections.abc import Sequence
from typing import Protocol

from infrakit.spi.event import Event
from infrakit.spi.manager import MemberStatus, Status


class View(Protocol):
    """Called from the event loop, so it must not block; printing is fine."""

    is_live: bool  # whether it shows the status all the time; else only the last one, and no members

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:
        """Show the current status. Called after changes, and now and then for the ages in it."""
        ...

    def event(self, event: Event) -> None:
        """Show a new event."""
        ...
