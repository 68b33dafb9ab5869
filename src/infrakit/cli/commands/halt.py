"""`infrakit halt` and `unhalt`: the operator's stop."""

import click

from infrakit.cli import arguments, daemon, options, orders
from infrakit.spi.manager import Manager
from infrakit.spi.values import GroupID


@click.command
@arguments.optional_group
@options.message(required=True)
@options.output
def halt(group: str | None, why: str, output_format: str) -> None:
    """Stop every change to infrastructure, or to one group.

    It survives restarts, and is shown everywhere with who and why, until `infrakit unhalt`.

    \b
    Example:
      infrakit halt store -m "moving the rack"
    """
    committed = daemon.ask(Manager.halt, group=_group(group), who=daemon.who(), why=why)
    orders.done(committed, output_format, f"Halted {group or 'everything'}")


@click.command
@arguments.optional_group
@options.message()
@options.output
def unhalt(group: str | None, why: str | None, output_format: str) -> None:
    """Lift a halt.

    Without GROUP it lifts the halt of everything; those of single groups stay.

    \b
    Example:
      infrakit unhalt store -m "rack moved"
    """
    committed = daemon.ask(Manager.unhalt, group=_group(group), who=daemon.who(), why=why or "unhalt")
    orders.done(committed, output_format, f"Lifted the halt of {group or 'everything'}")


def _group(name: str | None) -> GroupID | None:
    return GroupID(name) if name else None
