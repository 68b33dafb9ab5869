"""The interface through which `up` shows status and events; its caller implements it."""

from collections.abc import Sequence
from typing import Protocol

from infrakit.spi.event import Event
from infrakit.spi.manager import MemberStatus, Status


class View(Protocol):
    """Called from the event loop, so it must not block; printing is fine."""

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:
        """What exists now, a few times a second."""
        ...

    def event(self, event: Event) -> None:
        """Something happened."""
        ...
