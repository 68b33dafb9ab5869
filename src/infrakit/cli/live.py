"""What `infrakit up` shows: a live picture on a terminal that can show one, plain lines everywhere else.

rich draws the picture. It is an extra: without it, or where its control sequences would end up in a file, every event
is one line. Both views remember the last status, because the words at the end depend on what still runs.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self

import click

from infrakit.cli import reports, tables
from infrakit.lifecycle.view import View
from infrakit.rpc import discovery
from infrakit.spi.event import Event
from infrakit.spi.manager import MemberStatus, Status


class OpenView(View, AbstractContextManager["OpenView"], Protocol):
    """A view while it is shown."""

    last: Status | None


HERE = "Ctrl-C stops this daemon and leaves the instances running."
ELSEWHERE = "Ctrl-C ends this view and leaves the cluster running."


def open_view(source: str, ctrl_c: str = HERE) -> OpenView:
    """The best view of `source` that standard output can show."""
    if tables.is_terminal() and tables.has_rich():
        from infrakit.cli import rich_view

        return rich_view.RichView(f"infrakit up {source}", ctrl_c)
    return PlainView(source, ctrl_c)


class PlainView:
    """One line an event, nothing else: for logs, pipes and simple terminals."""

    def __init__(self, source: str, ctrl_c: str) -> None:
        self._title = f"Bringing up {source}; {ctrl_c}"
        self.last: Status | None = None

    def __enter__(self) -> Self:
        click.echo(self._title)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:  # noqa: ARG002
        self.last = status

    def event(self, event: Event) -> None:
        click.echo(reports.event_now(event))


def farewell(last: Status | None, file: str | None) -> Iterator[str]:
    """What is left behind, how to get back to it, and how to end it."""
    if last is None:
        yield "Stopped before it had looked; instances that ran before keep running."
        return
    if not last.leader and last.note:
        yield "Stopped; it did not lead."
        return
    alive = [group for group in last.groups if group.live]
    if not alive:
        yield "Stopped; no instances are left behind."
        return
    kept = ", ".join(f"{group.live} of {group.name}" for group in alive)
    yield from tables.paragraph(f"Stopped. The instances keep running, unwatched: {kept}.")
    again = "up" if file is None else f"up {'FILE' if file == '-' else file}"
    yield f"  {_infrakit()} {again}    finds them again and goes on"
    yield f"  {_infrakit()} down    ends them"


def farewell_to_cluster(last: Status | None, file: str, place: str) -> Iterator[str]:
    """The same for a cluster that keeps itself alive, whoever looks; one of its replicas answers at `place`."""
    alive = ", ".join(f"{group.live} of {group.name}" for group in last.groups if group.live) if last else ""
    yield f"The cluster goes on by itself{': ' if alive else ''}{alive}."
    named = "FILE" if file == "-" else file
    yield f"  {_infrakit()} up {named}    shows it again, and commits what has changed"
    yield f"  {_infrakit()} down {named}    ends it"
    yield f"  INFRAKIT_HOST={place} {_infrakit()} status    or any other command: asks it"


def _infrakit() -> str:
    """How this very program is called here, with the home that it uses."""
    import shlex
    import shutil

    ours = sys.argv[0] if Path(sys.argv[0]).name == "infrakit" else "infrakit"
    program = "infrakit" if shutil.which("infrakit") else ours
    if not os.environ.get(discovery.HOME_VARIABLE):
        return program
    return f"{discovery.HOME_VARIABLE}={shlex.quote(str(discovery.home().absolute()))} {program}"
