"""The view of `infrakit up`: a live display on a capable terminal, plain lines everywhere else.

The live display needs rich, an extra. Without it, or if standard output is not a terminal, every event is one line.
Both views keep the last status, because the closing message depends on which instances still run.
"""

import asyncio
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
    """A view that is currently displayed."""

    last: Status | None


HERE = "Ctrl-C stops this daemon and leaves the instances running."
ELSEWHERE = "Ctrl-C closes this view and leaves the cluster running."


def open_view(source: str, ctrl_c: str = HERE) -> OpenView:
    """Open the live view if standard output is a capable terminal and rich is installed, otherwise the plain one."""
    if tables.is_terminal() and tables.has_rich():
        from infrakit.cli import rich_view

        return rich_view.RichView(f"infrakit up {source}", ctrl_c)
    return PlainView(source, ctrl_c)


class PlainView:
    """Prints one line per event, for logs, pipes and simple terminals.

    Events that occur at once are printed at once: each output is a system call, and thousands of them are expensive.
    """

    is_live = False

    def __init__(self, source: str, ctrl_c: str) -> None:
        self._title = f"Bringing up {source}; {ctrl_c}"
        self._unprinted: list[Event] = []
        self.last: Status | None = None

    def __enter__(self) -> Self:
        click.echo(self._title)
        return self

    def __exit__(self, *_: object) -> None:
        self._print()

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:  # noqa: ARG002
        self.last = status

    def event(self, event: Event) -> None:
        if not self._unprinted:
            asyncio.get_running_loop().call_soon(self._print)
        self._unprinted.append(event)

    def _print(self) -> None:
        if self._unprinted:
            events, self._unprinted = self._unprinted, []
            click.echo("\n".join(map(reports.event_now, events)))


def closing_lines(last: Status | None) -> Iterator[str]:
    """Yield the closing lines of `up`: the instances that still run, and the commands that resume or destroy them."""
    if last is None:
        yield "Stopped before the first observation; existing instances keep running."
        return
    if not last.leader and last.note:
        yield "Stopped; this replica was not the leader."
        return
    alive = [group for group in last.groups if group.live]
    if not alive:
        yield "Stopped; no instances are left running."
        return
    kept = ", ".join(f"{group.live} of {group.name}" for group in alive)
    yield from tables.paragraph(f"Stopped. The instances keep running without supervision: {kept}.")
    # without FILE: committing it again would undo what was committed meanwhile, such as another size
    yield f"  {_infrakit()} up    adopts them and continues"
    yield f"  {_infrakit()} down    destroys them"


def cluster_closing_lines(last: Status | None, file: str, place: str) -> Iterator[str]:
    """Yield the closing lines of `up` for a cluster that hosts its own replicas, one of which listens at `place`."""
    alive = ", ".join(f"{group.live} of {group.name}" for group in last.groups if group.live) if last else ""
    yield f"The cluster continues on its own{': ' if alive else ''}{alive}."
    named = "FILE" if file == "-" else file
    yield f"  {_infrakit()} up {named}    commits changes and opens this view again"
    yield f"  {_infrakit()} down {named}    destroys it"
    yield f"  INFRAKIT_HOST={place} {_infrakit()} status    shows its status; other commands work the same way"


def _infrakit() -> str:
    """Return the command that runs this program again with the same INFRAKIT_HOME."""
    import shlex
    import shutil

    ours = sys.argv[0] if Path(sys.argv[0]).name == "infrakit" else "infrakit"
    program = "infrakit" if shutil.which("infrakit") else ours
    if not os.environ.get(discovery.HOME_VARIABLE):
        return program
    return f"{discovery.HOME_VARIABLE}={shlex.quote(str(discovery.home().absolute()))} {program}"
