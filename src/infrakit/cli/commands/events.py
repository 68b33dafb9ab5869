"""`infrakit events`: prints the event journal, and follows it."""

import datetime
import re

import click

from infrakit.cli import daemon, numbers, options, output, reports
from infrakit.spi import event
from infrakit.spi.clock import SystemClock


@click.command
@click.option("-f", "--follow", is_flag=True, help="Print new events until Ctrl-C.")
@click.option("--since", metavar="SEQ|AGE|TIME", help="Start after an event number, an age (10m), or an ISO 8601 time.")
@click.option("--group", help="Only events of this group.")
@options.output
def events(follow: bool, since: str | None, group: str | None, output_format: str) -> None:
    """Show the event journal, each event with its reason.

    Without --since, the whole journal is shown, or with --follow only new events. JSON output has one line per event.
    While no daemon is running here, the stored journal of the last one is read.

    \b
    Example:
      infrakit events --follow --since 10m
    """
    seq, after = _since(since) if since else (None if follow else 0, "")
    shown = False
    for each in daemon.events(since=seq, group=group, follow=follow):
        if each.timestamp < after:
            continue
        shown = True
        click.echo(reports.event(each) if output_format == "table" else output.stream(each, output_format))
    if not shown:
        click.echo(f"no events{f' of group {group}' if group else ''}{f' since {since}' if since else ''}", err=True)


def _since(text: str) -> tuple[int, str]:
    """Return the event number and the time after which events are shown. Times are compared as text, in UTC."""
    if re.fullmatch("[0-9]+", text):
        return int(text), ""
    try:
        moment = datetime.datetime.fromisoformat(text).timestamp()  # without a zone it is local time
    except ValueError:
        try:
            moment = SystemClock().now() - numbers.duration(text)
        except click.BadParameter:
            expected = "an event's number, an age such as 10m, or a time such as 2026-11-23T11:21"
            raise click.BadParameter(f"{text!r} is not {expected}.", param_hint="--since") from None
    return 0, event.timestamp(moment)
