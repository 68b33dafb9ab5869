"""`infrakit down`: the end of everything that was declared, and of the daemon or of the cluster that hosts its own.

Without a daemon here, one is started in this process that only destroys: see `lifecycle.temporary`.
"""

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from infrakit.cli import (
    arguments,
    convergence,
    daemon,
    documents,
    exit_codes,
    numbers,
    options,
    orders,
    rendering,
    tables,
)
from infrakit.rpc import discovery
from infrakit.rpc.discovery import NotRunning
from infrakit.spi.errors import InfraKitError, OutcomeUnknown, Refused, Unreachable
from infrakit.spi.manager import GroupStatus, Halt, Manager, Status

if TYPE_CHECKING:
    from infrakit.lifecycle.down import TeardownRequest

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

    Where no daemon runs, after Ctrl-C say, and the declaration is kept in INFRAKIT_HOME, this command takes the place
    of one: under the same lock, and only to destroy. If time runs out, the same command continues.

    With FILE, only FILE's groups are destroyed, and the daemon is stopped if no other is declared.

    If FILE's cluster hosts its own replicas, FILE ends it from outside, as `infrakit up FILE` began it: halts it
    through a replica, waits until nobody inside acts any more, and destroys all instances of FILE's groups from here,
    those that host replicas last. Where no replica can be halted, it refuses, unless you say --without-halt.

    \b
    Example:
      infrakit down --yes
    """
    order = _Down(why=why or "down", volumes=volumes, timeout_s=timeout, yes=yes)
    if file is not None:
        _refuse_group(file)
        read = documents.read(file, asked)
        if without_halt or _hosts_replicas(read):
            _end_cluster(_cluster_order(read, why, order, without_halt=without_halt), read, file, yes=yes)
            return
        order = order._replace(why=why or f"down {read.source}", only=_names(read), source=read.source)
    elif without_halt or any(asked):
        raise click.UsageError("--without-halt, and what a template is rendered with, belong to FILE.")
    try:
        status = daemon.status()
    except NotRunning as silence:
        _without_daemon(silence, order)
        return
    if _destroy(status, order):
        daemon.ask(Manager.shutdown, who=daemon.who(), why=order.why)
        _wait_until_silent()
        click.echo("the daemon has stopped")


def _refuse_group(file: str) -> None:
    """A word that is the name of no file, and of a declared group."""
    if file == "-" or "/" in file or os.path.lexists(file):
        return
    try:
        declared = {group.name for group in daemon.status().groups}
    except InfraKitError:
        return
    if file in declared:
        raise click.UsageError(f"{file} is a group and no file: `infrakit group destroy {file}` destroys it.")


class _Down(NamedTuple):
    """What the operator has asked for."""

    why: str
    volumes: bool
    timeout_s: float
    yes: bool
    only: frozenset[str] | None = None  # the groups of FILE
    source: str = ""  # the name of FILE
    is_temporary: bool = False  # the daemon ends with this command


def _hosts_replicas(read: documents.Document) -> bool:
    import asyncio

    from infrakit.lifecycle import cluster

    with read.placed():
        return asyncio.run(cluster.find(read.text, read.source, home=discovery.home())) is not None


def _names(read: documents.Document) -> frozenset[str]:
    from infrakit.spec import document

    return frozenset(group.name for group in document.parse(read.text, source=read.source))


def _destroy(status: Status, order: _Down) -> bool:
    """Destroy the groups that are meant, one after the other. True: no other group is declared."""
    if status.halts:
        halt = status.halts[0]
        lift = "`infrakit unhalt` first"
        if order.is_temporary:
            lift = "`infrakit up` in another terminal, `infrakit unhalt`, then `infrakit down`"
        raise Refused(f"halted by {halt.who}: {halt.why}", remedy=lift)
    groups = daemon.groups(status)
    others = [group.name for group in groups if order.only is not None and group.name not in order.only]
    groups = tuple(group for group in groups if group.name not in others)
    if order.only is not None and not groups:
        click.echo(f"no group of {order.source} is declared")
        return False
    if groups:
        _refuse_from_inside()
        names = ", ".join(group.name for group in groups)
        data = "with their volumes and the data on them" if order.volumes else "keeping their volumes"
        stop = "" if others or order.is_temporary else ", and stop the daemon"
        orders.confirm(f"Destroy every instance of {names}, {data}{stop}?", yes=order.yes)
    deadline = time.monotonic() + order.timeout_s
    for group in reversed(groups):
        left = (
            f"instances of {group.name} may be left"
            if order.is_temporary
            else f"the daemon goes on destroying {group.name}"
        )
        with orders.interruption(f"interrupted: {left}; `infrakit down` again continues"):
            click.echo(f"destroying {group.name}: {tables.count(group.live, 'instance')}")
            daemon.ask(Manager.destroy, group=group.name, who=daemon.who(), why=order.why, volumes=order.volumes)
            _wait_until_gone(group, deadline, order.timeout_s)
        click.echo(f"{group.name} is gone")
    if others and not order.is_temporary:
        click.echo(f"the daemon stays for {', '.join(others)}")
    return not others


def _without_daemon(silence: NotRunning, order: _Down) -> None:
    """The same with a daemon in this process. Raises `silence` where no daemon has left anything here."""
    store = os.environ.get(daemon.STORE_VARIABLE) or os.environ.get(daemon.LEADERSHIP_VARIABLE)
    if not daemon.is_here():
        raise silence
    if store:
        raise NotRunning(
            f"{silence.what}, and the declaration is kept by {store}, where another replica may lead",
            remedy="`infrakit up` in another terminal, then `infrakit down`; or INFRAKIT_HOST=ADDRESS infrakit down",
        )
    home = discovery.home()
    if not (home / "store").is_dir():
        raise silence
    from infrakit.lifecycle import temporary
    from infrakit.runtime import lock
    from infrakit.spi.clock import SystemClock
    from infrakit.spi.event import timestamp

    click.echo("infrakit: no daemon runs here; this command takes its place, and ends with it", err=True)
    when = timestamp(SystemClock().now())
    halt = Halt(group=None, who=daemon.who(), when=when, why="`infrakit down` changes only what it destroys")
    try:
        with temporary.daemon(home, halt):
            status = daemon.status()
            if not status.groups:
                click.echo(f"nothing is declared in {home.absolute()}")
            else:
                _destroy(status, order._replace(is_temporary=True))
    except lock.InUse as held:
        end = f"kill {held.pid}" if held.pid is not None else "end it"
        raise Refused(
            f"{held.what}, and it does not answer: {silence.what}",
            remedy=f"if it has just started, `infrakit down` again; else {end}, then `infrakit down`",
        ) from None
    except click.exceptions.Exit as ended:
        if ended.exit_code != exit_codes.INTERRUPTED:  # which has said so
            click.echo("infrakit: `infrakit down` again continues", err=True)
        raise


def _cluster_order(read: documents.Document, why: str | None, asked: _Down, *, without_halt: bool) -> "TeardownRequest":
    from infrakit.lifecycle.down import TeardownRequest

    return TeardownRequest(
        text=read.text,
        source=read.source,
        who=daemon.who(),
        why=why or f"down {read.source}",
        volumes=asked.volumes,
        unhalted=without_halt,
        timeout_s=asked.timeout_s,
    )


def _end_cluster(order: "TeardownRequest", read: documents.Document, file: str, *, yes: bool) -> None:
    import asyncio

    from infrakit.lifecycle import down as lifecycle

    def agree(question: str) -> None:
        orders.confirm(question, yes=yes)

    with read.placed():
        kept = asyncio.run(lifecycle.down(order, home=discovery.home(), report=click.echo, agree=agree))
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
    progress = convergence.Progress()
    while True:
        status = daemon.status()
        now = next((each for each in status.groups if each.name == group.name), None)
        nobody_tells = status.note and not status.groups
        if (now is None and not nobody_tells) or (now is not None and now.live == now.want == 0 and now.converged):
            return
        progress.show(status)
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
