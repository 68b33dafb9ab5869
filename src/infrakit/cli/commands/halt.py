"""`infrakit halt` and `unhalt`: stop all changes to the infrastructure, and allow them again."""

import click

from infrakit.cli import arguments, changes, daemon, options, output, tables
from infrakit.spi.manager import Manager
from infrakit.spi.values import GroupID


@click.command
@arguments.optional_group
@options.message(required=True)
@options.output
def halt(group: str | None, why: str, output_format: str) -> None:
    """Stop all changes to the infrastructure, or to one group.

    The halt survives restarts, and every view shows it with its author and reason, until `infrakit unhalt`.

    \b
    Example:
      infrakit halt store -m "moving the rack"
    """
    committed = daemon.change(Manager.halt, group=_group(group), why=why)
    changes.done(committed, output_format, f"Halted {group or 'everything'}")


@click.command
@arguments.optional_group
@options.message()
@options.output
def unhalt(group: str | None, why: str | None, output_format: str) -> None:
    """Lift a halt.

    Without GROUP, it lifts the global halt; halts of single groups remain.

    \b
    Example:
      infrakit unhalt store -m "rack moved"
    """
    committed = daemon.change(Manager.unhalt, group=_group(group), why=why or "unhalt")
    if committed.unchanged and output_format == "table":
        everything = "no halt of everything; `infrakit status` shows those of single groups"
        output.lines(list(tables.paragraph(f"Nothing to lift: {f'{group} is not halted' if group else everything}.")))
        return
    changes.done(committed, output_format, f"Lifted the halt of {group or 'everything'}")


def _group(name: str | None) -> GroupID | None:
    return GroupID(name) if name else None
