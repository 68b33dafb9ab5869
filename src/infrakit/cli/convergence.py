"""Waiting for the daemon to have done what was declared."""

import time
from collections.abc import Iterable

import click

from infrakit.cli import daemon, exit_codes, reports
from infrakit.spi.manager import Status

POLL_S = 0.5


def reached(status: Status, *, version: int = 0) -> bool:
    """Whether everything declared, at this version or a later one, is there and proven healthy."""
    return status.leader and status.version >= version and all(group.converged for group in status.groups)


def wait(timeout_s: float, *, version: int = 0) -> Status:
    """Poll until converged; exit 2 with what is waited for when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        status = daemon.status()
        if reached(status, version=version):
            return status
        if time.monotonic() >= deadline:
            complain(pending(status), timeout_s)
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


def pending(status: Status) -> list[str]:
    """What keeps it from being converged, for people."""
    lines = [] if status.leader else [f"{status.replica} does not lead"]
    for group in status.groups:
        if not group.converged:
            lines.append(f"{group.name}: {group.phase}, {group.healthy} of {group.want} healthy")
            lines.extend(reports.reasons((*group.doing, *group.waiting)))
    return lines


def complain(waiting_for: Iterable[str], timeout_s: float) -> None:
    """Say that time is up, and why; ends the command."""
    click.echo(f"infrakit: not converged after {timeout_s:g}s", err=True)
    for line in waiting_for:
        click.echo(line, err=True)
    raise click.exceptions.Exit(exit_codes.NOT_DONE)
