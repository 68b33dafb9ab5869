"""The live view on a terminal: draws the frames of `screen` with rich. Needs the extra `pretty`.

It uses the terminal's alternate screen, so that resizing the window leaves no residue: the next frame is drawn for the
new size. On exit, the last frame is printed on the normal screen.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from infrakit.cli import screen
from infrakit.spi.event import Event
from infrakit.spi.manager import MemberStatus, Status

_REFRESHES_PER_S = 8


class RichView:
    """Displays the latest state; rich prints it a few times per second, in a separate thread.

    A frame is drawn only when the state or the size of the terminal has changed.
    """

    is_live = True

    def __init__(self, title: str, ctrl_c: str, console: Console | None = None) -> None:
        self._title = title
        self._ctrl_c = ctrl_c
        self._events: deque[Event] = deque(maxlen=screen.EVENTS_MAX)
        self._members: Sequence[MemberStatus] = ()
        self.last: Status | None = None
        self._changes = 0
        self._drawn: tuple[object, Text] = (None, Text())  # what the newest frame shows, and the frame
        self._console = console or Console(highlight=False)
        self._live = Live(
            get_renderable=self._render, console=self._console, refresh_per_second=_REFRESHES_PER_S, screen=True
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        self._live.refresh()  # otherwise the screen is blank until the thread first runs
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)
        self._console.print(styled(self._frame()[:-1]))  # without the line about Ctrl-C

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:
        self.last, self._members = status, members
        self._changes += 1

    def event(self, event: Event) -> None:
        self._events.append(event)
        self._changes += 1

    def _render(self) -> Text:
        key = self._changes, self._console.size
        if self._drawn[0] != key:
            self._drawn = key, styled(self._frame())
        return self._drawn[1]

    def _frame(self) -> list[screen.Line]:
        scene = screen.Scene(self._title, self._ctrl_c, self.last, self._members, tuple(self._events))
        return screen.frame(scene, *self._console.size)


def styled(lines: Iterable[screen.Line]) -> Text:
    """Convert the lines to a rich text that rich neither wraps nor reformats."""
    text = Text(no_wrap=True, overflow="crop")
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        for span in line:
            text.append(span.text, style=span.style)
    return text


def watch(ask: Callable[[], tuple[Status, Sequence[MemberStatus]]], view: RichView, *, every_s: float) -> NoReturn:
    """Poll the status and draw it, until Ctrl-C."""
    view.status(*ask())  # if no daemon answers, the error is shown without opening the view
    with view:
        while True:
            time.sleep(every_s)
            view.status(*ask())
