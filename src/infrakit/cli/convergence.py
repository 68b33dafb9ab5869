"""Waits until the daemon has converged to the declaration."""

import sys
import time
from collections.abc import Iterable

import click

from infrakit.cli import daemon, exit_codes, reports
from infrakit.spi.manager import Status

POLL_S = 0.5
PROGRESS_S = 5.0
STOPPED = {"paused", "halted"}  # phases that only an operator can end


def reached(status: Status, *, version: int = 0) -> bool:
    """Whether every group has converged to this version of the declaration or a later one."""
    leads = status.leader or bool(status.leading)
    return leads and status.version >= version and all(group.converged for group in status.groups)


class Progress:
    """Progress messages on a terminal: the first after a few seconds, then one at every change."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_S
        self._shown: list[str] = []

    def show(self, status: Status) -> None:
        """Print the groups that have not converged, if the list has changed."""
        if sys.stderr is None or not sys.stderr.isatty() or time.monotonic() < self._next:
            return
        lines = pending(status)
        if lines != self._shown:
            self._shown, self._next = lines, time.monotonic() + PROGRESS_S
            for line in ("waiting for:", *lines):
                click.echo(line, err=True)


def wait(timeout_s: float, *, version: int = 0) -> Status:
    """Poll until converged; on timeout, print what has not converged and exit with code 2."""
    deadline, progress = time.monotonic() + timeout_s, Progress()
    while True:
        status = daemon.status()
        if reached(status, version=version):
            return status
        progress.show(status)
        if time.monotonic() >= deadline:
            fail(pending(status), f"not converged after {timeout_s:g}s")
        if status.version >= version and stuck(status):
            fail(pending(status), "not converged: the remaining groups are paused or halted")
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


def pending(status: Status) -> list[str]:
    """Return the reasons why the declaration has not converged, as lines for people."""
    lines = [] if status.leader or status.leading else [f"{status.replica} does not lead: {status.note}"]
    for group in status.groups:
        if not group.converged:
            lines.append(f"{group.name}: {group.phase}, {group.healthy} of {group.want} healthy")
            lines.extend(reports.reasons(group.doing, mark=">"))
            lines.extend(reports.reasons(group.waiting, mark="="))
    return lines


def stuck(status: Status) -> bool:
    """Whether every group that has not converged is paused or halted, so that waiting is pointless."""
    phases = [group.phase for group in status.groups if not group.converged]
    return bool(phases) and all(phase in STOPPED for phase in phases)


def fail(waiting_for: Iterable[str], what: str) -> None:
    """Print a failure with the reasons for it, and exit with code 2."""
    click.echo(f"infrakit: {what}", err=True)
    for line in waiting_for:
        click.echo(line, err=True)
    raise click.exceptions.Exit(exit_codes.NOT_DONE)
