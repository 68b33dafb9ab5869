"""`infrakit events`: the journal, and what is added to it."""

import datetime
import re

import click

from infrakit.cli import daemon, numbers, options, output, reports
from infrakit.spi import event
from infrakit.spi.clock import SystemClock


@click.command
@click.option("-f", "--follow", is_flag=True, help="Go on with new events, until Ctrl-C.")
@click.option("--since", metavar="SEQ|AGE|TIME", help="After an event's number, a time ago (10m), or an ISO 8601 time.")
@click.option("--group", help="Only events of this group.")
@options.output
def events(follow: bool, since: str | None, group: str | None, output_format: str) -> None:
    """Show what happened, each line with its reason.

    Everything that is kept, or with --follow only what is new, unless --since says otherwise. JSON comes as one
    line an event. While no daemon runs here, the journal that it has left is read.

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
        click.echo(f"no events{f' of a group {group}' if group else ''}{f' since {since}' if since else ''}", err=True)


def _since(text: str) -> tuple[int, str]:
    """The number after which, and the time from which events are shown. Times compare as texts, in UTC."""
    if re.fullmatch("[0-9]+", text):
        return int(text), ""
    try:
        moment = datetime.datetime.fromisoformat(text).timestamp()  # without a zone it is local, as people mean it
    except ValueError:
        try:
            moment = SystemClock().now() - numbers.duration(text)
        except click.BadParameter:
            expected = "an event's number, an age such as 10m, or a time such as 2026-11-23T11:21"
            raise click.BadParameter(f"{text!r} is not {expected}.", param_hint="--since") from None
    return 0, event.timestamp(moment)
