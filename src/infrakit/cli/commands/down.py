"""`infrakit down`: the end of everything that was declared, and of the daemon or of the cluster that hosts its own."""

import time
from typing import TYPE_CHECKING

import click

from infrakit.cli import arguments, convergence, daemon, documents, numbers, options, orders, rendering, tables
from infrakit.rpc import discovery
from infrakit.spi.errors import OutcomeUnknown, Refused, Unreachable
from infrakit.spi.manager import GroupStatus, Manager

if TYPE_CHECKING:
    from infrakit.runtime.down import Order

_SHUTDOWN_S = 15.0


@click.command
@arguments.optional_file
@options.template
@click.option("--without-halt", is_flag=True, help="With FILE: go on though no replica can be halted. None may act!")
@click.option("--volumes", is_flag=True, help="Delete attachments too, with the data on them.")
@click.option("--timeout", type=numbers.duration, default="5m", show_default=True, help="For all of it.")
@options.yes
@options.message()
def down(  # noqa: PLR0917
    file: str | None,
    asked: rendering.Asked,
    without_halt: bool,
    volumes: bool,
    timeout: float,
    yes: bool,
    why: str | None,
) -> None:
    """Destroy every declared group, then stop the daemon.

    One group after the other, the last by name first. Volumes are kept unless asked. If time runs out, exit code 2:
    the daemon stays, and goes on. Refused where the daemon runs on a machine of one of the groups.

    With FILE, it ends a cluster that hosts its own replicas, from outside, as `infrakit up FILE` began it: halts it
    through a replica, waits until nobody inside acts any more, and destroys all instances of FILE's groups from here,
    those that host replicas last. Where no replica can be halted, it refuses, unless you say --without-halt.

    \b
    Example:
      infrakit down --yes
    """
    if file is not None:
        from infrakit.runtime.down import Order

        read = documents.read(file, asked)
        order = Order(
            text=read.text,
            source=read.source,
            who=daemon.who(),
            why=why or f"down {read.source}",
            volumes=volumes,
            unhalted=without_halt,
            timeout_s=timeout,
        )
        _end_cluster(order, read, file, yes=yes)
        return
    if without_halt or any(asked):
        raise click.UsageError("--without-halt, and what a template is rendered with, belong to FILE.")
    status = daemon.status()
    if status.halts:
        halt = status.halts[0]
        raise Refused(f"halted by {halt.who}: {halt.why}", remedy="`infrakit unhalt` first")
    groups = daemon.groups(status)
    if groups:
        _refuse_from_inside()
        names = ", ".join(group.name for group in groups)
        data = "with their volumes and the data on them" if volumes else "keeping their volumes"
        orders.confirm(f"Destroy every instance of {names}, {data}, and stop the daemon?", yes=yes)
    deadline = time.monotonic() + timeout
    reason = why or "down"
    for group in reversed(groups):
        click.echo(f"destroying {group.name}: {tables.count(group.live, 'instance')}")
        daemon.ask(Manager.destroy, group=group.name, who=daemon.who(), why=reason, volumes=volumes)
        _wait_until_gone(group, deadline, timeout)
        click.echo(f"{group.name} is gone")
    daemon.ask(Manager.shutdown, who=daemon.who(), why=reason)
    _wait_until_silent()
    click.echo("the daemon has stopped")


def _end_cluster(order: "Order", read: documents.Document, file: str, *, yes: bool) -> None:
    import asyncio

    from infrakit.runtime import down as runtime

    def agree(question: str) -> None:
        orders.confirm(question, yes=yes)

    with read.placed():
        kept = asyncio.run(runtime.down(order, home=discovery.home(), tell=click.echo, agree=agree))
    if kept:
        click.echo("Volumes are kept, and with them the declaration and its halt. To bring it all back:")
        click.echo(f"  infrakit bootstrap {'FILE' if file == '-' else file} --recover    and then: infrakit unhalt")


def _refuse_from_inside() -> None:
    """A replica on a machine of its own group ends before the rest: then nobody is left who may destroy it."""
    own = next((member for member in daemon.ask(Manager.members) if member.is_self), None)
    if own is not None:
        raise Refused(
            f"the daemon runs on {own.id} of {own.group}: it would end itself before the rest is gone",
            remedy="`infrakit halt` here, then end the group from a daemon elsewhere that has a store of its own",
        )


def _wait_until_gone(group: GroupStatus, deadline: float, timeout_s: float) -> None:
    while True:
        status = daemon.status()
        now = next((each for each in status.groups if each.name == group.name), None)
        nobody_tells = status.note and not status.groups
        if (now is None and not nobody_tells) or (now is not None and now.live == now.want == 0 and now.converged):
            return
        if time.monotonic() >= deadline:
            convergence.complain(convergence.pending(status), f"not gone after {timeout_s:g}s")
        time.sleep(convergence.POLL_S)


def _wait_until_silent() -> None:
    deadline = time.monotonic() + _SHUTDOWN_S
    while time.monotonic() < deadline:
        try:
            daemon.status()
        except (Unreachable, OutcomeUnknown):
            return
        time.sleep(convergence.POLL_S / 5)
    raise OutcomeUnknown(f"the daemon still answers {_SHUTDOWN_S:g}s after it was told to stop")
