"""`infrakit status`: what exists against what is declared, once, repeatedly, or until it agrees."""

import time
from collections.abc import Sequence

import click

from infrakit.cli import convergence, daemon, exit_codes, numbers, options, output, reports, tables
from infrakit.spi.errors import InfraKitError
from infrakit.spi.manager import Manager, MemberStatus, Status

_REFRESH_S = 1.0


@click.command
@click.option("-w", "--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@click.option("--wait", type=numbers.duration, metavar="TIMEOUT", help="Wait until converged, for so long at most.")
@options.output
def status(watch: bool, wait: float | None, output_format: str) -> None:
    """Show what exists against what is declared.

    Exit code 0: every group is converged; 2: not (yet).

    \b
    Example:
      infrakit status --wait 60s
    """
    if watch and wait is not None:
        raise click.UsageError("--watch never ends and --wait does: say one of them.")
    if watch:
        _watch(output_format)
    value = daemon.status() if wait is None else convergence.wait(wait)
    output.show(value, output_format, _people)
    if not convergence.reached(value):
        raise click.exceptions.Exit(exit_codes.NOT_DONE)


def _people(value: Status) -> None:
    output.lines(list(reports.status(value)))


def _watch(output_format: str) -> None:
    if output_format == "table" and tables.is_terminal() and tables.has_rich():
        from infrakit.cli import rich_view

        view = rich_view.RichView("infrakit status --watch", "Ctrl-C ends this view; the daemon continues.")
        rich_view.watch(_status_and_members, view, every_s=_REFRESH_S)
    while True:
        value = daemon.status()
        if output_format == "table":
            click.clear()  # does nothing unless this is a terminal
            _people(value)
            if tables.is_terminal():
                click.echo("Ctrl-C ends this view; the extra `pretty` of the package draws a live one.")
        else:
            click.echo(output.stream(value, output_format))
        time.sleep(_REFRESH_S)


def _status_and_members() -> tuple[Status, Sequence[MemberStatus]]:
    """What the live view shows; no instances while the leader cannot be asked for them."""
    value = daemon.status()
    try:
        return value, daemon.ask(Manager.members)
    except InfraKitError:  # where nothing answers any more, the next status says so
        return value, ()
