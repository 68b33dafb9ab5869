"""`infrakit instance`: shows and destroys single instances, and reads their logs."""

import time
from collections.abc import Iterator

import click

from infrakit.cli import arguments, changes, daemon, numbers, options, output, reports, tables, words
from infrakit.spi.errors import NotFound, Refused
from infrakit.spi.manager import Manager, MemberStatus
from infrakit.spi.values import GroupID, InstanceID

_LOG_POLL_S = 0.5


@click.group(cls=words.Commands)
def instance() -> None:
    """List, describe or destroy instances, and read their logs.

    \b
    Example:
      infrakit instance ls workers
    """


@instance.command
@arguments.optional_group
@options.output
def ls(group: str | None, output_format: str) -> None:
    """List instances, of all groups or of one.

    \b
    Example:
      infrakit instance ls store
    """
    members = daemon.ask(Manager.members, group=GroupID(group) if group else None)
    output.show(members, output_format, lambda values: output.lines(list(reports.members(values))))


@instance.command
@arguments.instance
@options.output
def describe(instance: str, output_format: str) -> None:
    """Show all details of one instance.

    INSTANCE is its ID, its logical ID or GROUP/SLOT.

    \b
    Example:
      infrakit instance describe 127.0.0.12
    """
    found = _find(instance)
    if not found:
        raise NotFound(f"no instance {instance!r}", remedy="`infrakit instance ls` lists them")
    # During a replacement, two instances may have the same logical ID.
    output.show(found, output_format, lambda members: output.lines([line for m in members for line in _lines(m)]))


def _find(text: str) -> list[MemberStatus]:
    """Return the instances with this ID, logical ID or GROUP/SLOT."""
    members = daemon.ask(Manager.members)
    return [m for m in members if text in (m.id, m.logical_id, f"{m.group}/{m.slot}")]


def _id(text: str) -> InstanceID:
    """Return the ID of the only instance with this name; an unknown name unchanged: it may have terminated."""
    named = sorted({m.id for m in _find(text) if m.id is not None})
    if len(named) > 1:
        raise Refused(f"{text} is ambiguous: {', '.join(named)}", remedy="use one of these instance IDs")
    return named[0] if named else InstanceID(text)


def _lines(member: MemberStatus) -> Iterator[str]:
    seen = f", {tables.age(member.health_age_s)} ago" if member.health_age_s is not None else ""
    rows = {
        "Instance": member.id or "-",
        "Group": member.group,
        "Slot": member.slot or "-",
        "Logical ID": member.logical_id or "-",
        "State": member.state + (", this controller runs here" if member.is_self else ""),
        "Age": tables.age(member.age_s),
        "Version": f"{member.hash or '-'} ({'current' if member.up_to_date else 'out of date'})",
        "Health": member.health.value + (f", {member.note}" if member.note else "") + seen,
        "Attachments": ", ".join(f"{each.id} ({each.type})" for each in member.attachments) or "-",
        "Tags": ", ".join(f"{name}={value}" for name, value in sorted(member.tags.items())) or "-",
    }
    for title, text in rows.items():
        yield from tables.paragraph(text, indent=f"{title + ':':<13}", hanging=" " * 13)


@instance.command
@arguments.instance
@click.option("--no-replace", is_flag=True, help="Shrink the group by it, in the same atomic change.")
@options.message()
@options.output
def destroy(instance: str, no_replace: bool, why: str | None, output_format: str) -> None:
    """Destroy one instance; its group creates a replacement.

    \b
    Example:
      infrakit instance destroy web-7f3a --no-replace -m "one too many"
    """
    why = why or f"destroy {instance}"
    committed = daemon.change(Manager.destroy_instance, instance=_id(instance), why=why, replace=not no_replace)
    changes.done(committed, output_format, f"Destroying {instance}")


@instance.command
@arguments.instance
@click.option("-n", "--lines", type=numbers.whole(1), default=100, show_default=True, help="Number of last lines.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines until it terminates, or Ctrl-C.")
def logs(instance: str, lines: int, follow: bool) -> None:
    """Print the last lines of an instance's log.

    \b
    Example:
      infrakit instance logs web-7f3a --follow
    """
    named = _id(instance)
    if follow:
        _follow(named, lines)
        return
    text = daemon.ask(Manager.logs, instance=named, lines=lines)
    click.echo(text, nl=not text.endswith("\n") and bool(text))


def _follow(instance: InstanceID, lines: int) -> None:
    part = daemon.ask(Manager.tail, instance=instance, lines=lines)
    while True:
        click.echo(part.text, nl=False)
        if part.ended:
            click.echo(f"infrakit: {instance} has terminated", err=True)
            return
        if not part.text:
            time.sleep(_LOG_POLL_S)
        part = daemon.ask(Manager.tail, instance=instance, after=part.position)
