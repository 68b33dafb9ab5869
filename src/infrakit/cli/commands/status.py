"""`infrakit status`: compares the actual state with the declaration, once, repeatedly, or until converged."""

import time
from collections.abc import Sequence

import click

from infrakit.cli import convergence, daemon, exit_codes, numbers, options, output, reports, tables
from infrakit.spi.errors import InfraKitError
from infrakit.spi.manager import Manager, MemberStatus, Status

_REFRESH_S = 1.0


@click.command
@click.option("-w", "--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
@click.option("--wait", type=numbers.duration, metavar="TIMEOUT", help="Wait until converged, at most TIMEOUT.")
@options.output
def status(watch: bool, wait: float | None, output_format: str) -> None:
    """Compare the actual state of all groups with the declaration.

    Exit code 0: every group has converged; 2: not (yet).

    \b
    Example:
      infrakit status --wait 60s
    """
    if watch and wait is not None:
        raise click.UsageError("--watch and --wait exclude each other.")
    if watch:
        _watch(output_format)
    value = daemon.status() if wait is None else convergence.wait(wait)
    output.show(value, output_format, _print_table)
    if not convergence.reached(value):
        raise click.exceptions.Exit(exit_codes.NOT_DONE)


def _print_table(value: Status) -> None:
    output.lines(list(reports.status(value)))


def _watch(output_format: str) -> None:
    if output_format == "table" and tables.is_terminal() and tables.has_rich():
        from infrakit.cli import rich_view

        view = rich_view.RichView("infrakit status --watch", "Ctrl-C closes this view; the daemon continues.")
        rich_view.watch(_status_and_members, view, every_s=_REFRESH_S)
    while True:
        value = daemon.status()
        if output_format == "table":
            click.clear()  # does nothing unless this is a terminal
            _print_table(value)
            if tables.is_terminal():
                click.echo("Ctrl-C closes this view; install the extra `pretty` for a live one.")
        else:
            click.echo(output.stream(value, output_format))
        time.sleep(_REFRESH_S)


def _status_and_members() -> tuple[Status, Sequence[MemberStatus]]:
    """Return the input of the live view; without instances while the leader cannot be reached."""
    value = daemon.status()
    try:
        return value, daemon.ask(Manager.members)
    except InfraKitError:  # if the daemon has stopped, the next status raises
        return value, ()
