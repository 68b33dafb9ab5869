"""`infrakit leader`: shows the replicas, transfers the leadership, and removes a replica that is lost."""

from collections.abc import Iterator

import click

from infrakit.cli import arguments, daemon, exit_codes, options, output, tables
from infrakit.spi.event import to_the_second
from infrakit.spi.manager import LeaderStatus, Manager, ReplicaStatus

ROLE_COLOURS = {"leader": "green", "away": "red"}


@click.group(invoke_without_command=True)
@options.output
@click.pass_context
def leader(context: click.Context, output_format: str) -> None:
    """Show the active replica and the status of the others.

    \b
    Example:
      infrakit leader
    """
    if context.invoked_subcommand is None:
        answer = daemon.ask(Manager.leader)
        output.show(answer, output_format, lambda value: output.lines(list(_lines(value))))
        if answer.note:
            raise click.exceptions.Exit(exit_codes.NOT_DONE)


def _lines(value: LeaderStatus) -> Iterator[str]:
    if value.note:
        yield from tables.paragraph(f"Leader unknown: {value.note}")
    elif value.leader:
        lead = f"{tables.clean(value.leader)} leads, epoch {value.epoch}, since {to_the_second(value.since)}"
        away = any(each.name == value.leader and each.role == "away" for each in value.replicas)
        yield tables.paint(f"{lead}; it does not answer", "yellow") if away else lead
    else:
        yield tables.paint(f"No replica is active; the last epoch was {value.epoch}.", "yellow")
    observed = f"{value.replica} last observed the leadership {tables.age(value.observed_age_s)} ago: {value.observed}"
    yield from tables.paragraph(observed)
    if value.replicas:
        yield ""
        header = ("REPLICA", "ROLE", "ANSWERED", "VERSION", "FORMAT", "HOST", "PID", "STARTED", "ADDRESS", "NOTE")
        yield from tables.table(header, [_row(each) for each in value.replicas])


def _row(each: ReplicaStatus) -> list[str | tables.Cell]:
    return [
        each.name,
        tables.Cell(each.role, ROLE_COLOURS.get(each.role, "")),
        "-" if each.took_s is None else f"{each.took_s * 1000:.0f} ms",
        each.version,
        str(each.format),
        each.host,
        str(each.pid),
        to_the_second(each.started),
        each.address,
        each.note,
    ]


@leader.command
@options.message()
def resign(why: str | None) -> None:
    """Transfer the leadership to another replica.

    The leader cancels its calls in flight; the next leader determines their outcome. Any replica accepts the command.
    Only etcd, as the leadership source, can transfer the leadership.

    \b
    Example:
      infrakit leader resign -m "this host is rebooted"
    """
    daemon.change(Manager.resign, why=why or "resign")
    click.echo("Resigned; `infrakit leader` shows the new leader.")


@leader.command
@arguments.replica
@options.message()
def forget(replica: str, why: str | None) -> None:
    """Remove a replica from the list whose machine is lost.

    A replica that stops removes itself. One that was lost stays in the list: it counts when the others agree that the
    leader hangs, and its release decides which policies may be declared. It is refused while the replica answers.

    \b
    Example:
      infrakit leader forget node3 -m "its machine was replaced"
    """
    daemon.change(Manager.forget, replica=replica, why=why or f"forget {replica}")
    click.echo(f"Removed {replica}; if it runs again, it adds itself.")
