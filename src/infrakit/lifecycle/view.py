"""How `up` is watched: whoever runs it hands in a view, which is told everything and answers nothing."""

from collections.abc import Sequence
from typing import Protocol

from infrakit.spi.event import Event
from infrakit.spi.manager import MemberStatus, Status


class View(Protocol):
    """Called from the event loop between two steps, so it must not block: it prints at most."""

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:
        """What exists now, a few times a second."""
        ...

    def event(self, event: Event) -> None:
        """Something happened."""
        ...
