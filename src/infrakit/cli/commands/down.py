"""`infrakit down`: destroys all declared groups and stops the daemon, or destroys a cluster that hosts its own.

If no daemon is running, this process starts a temporary one that only destroys: see `lifecycle.temporary`.
"""

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from infrakit.cli import (
    arguments,
    changes,
    convergence,
    daemon,
    documents,
    exit_codes,
    numbers,
    options,
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
@click.option(
    "--without-halt", is_flag=True, help="With FILE: continue if no replica can be halted. None may be active!"
)
@click.option("--volumes", is_flag=True, help="Also delete attachments, with the data on them.")
@click.option("--timeout", type=numbers.duration, default="5m", show_default=True, help="Timeout of the command.")
@options.yes
@options.message()
def down(  # noqa: PLR0917
    file: str | None,
    template_options: rendering.TemplateOptions,
    without_halt: bool,
    volumes: bool,
    timeout: float,
    yes: bool,
    why: str | None,
) -> None:
    """Destroy every declared group, then stop the daemon.

    Groups are destroyed one at a time, in reverse order of their names. Volumes are kept unless --volumes is given. On
    timeout the exit code is 2, and the daemon continues to destroy. Refused if the daemon runs on a machine of one of
    the groups.

    If no daemon is running, for example after Ctrl-C, and the declaration is stored in INFRAKIT_HOME, this command
    starts a temporary daemon: it holds the same lock, and only destroys. After a timeout, run the command again.

    With FILE, only FILE's groups are destroyed, and the daemon is stopped if no other group is declared.

    If FILE's cluster hosts its own replicas, it is destroyed from outside, the reverse of `infrakit up FILE`: the
    command halts the cluster through a replica, waits until no replica is active, and destroys all instances of FILE's
    groups from here, those that host replicas last. Refused if no replica can be halted, unless --without-halt is
    given.

    \b
    Example:
      infrakit down --yes
    """
    request = _Down(why=why or "down", volumes=volumes, timeout_s=timeout, yes=yes)
    if file is not None:
        _refuse_group(file)
        read = documents.read(file, template_options)
        if without_halt or _hosts_replicas(read):
            teardown = _teardown_request(read, why, request, without_halt=without_halt)
            _destroy_cluster(teardown, read, file, yes=yes)
            return
        request = request._replace(why=why or f"down {read.source}", only=_names(read), source=read.source)
    elif without_halt or any(template_options):
        raise click.UsageError("--without-halt and the template options need FILE.")
    try:
        status = daemon.status()
    except NotRunning as not_running:
        _without_daemon(not_running, request)
        return
    if _destroy(status, request):
        daemon.change(Manager.shutdown, why=request.why)
        _wait_until_stopped()
        click.echo("the daemon has stopped")


def _refuse_group(file: str) -> None:
    """Raise `UsageError` for the name of a declared group where no file of that name exists."""
    if file == "-" or "/" in file or os.path.lexists(file):
        return
    try:
        declared = {group.name for group in daemon.status().groups}
    except InfraKitError:
        return
    if file in declared:
        raise click.UsageError(f"{file} is a group, not a file: use `infrakit group destroy {file}`.")


class _Down(NamedTuple):
    """The arguments of the command."""

    why: str
    volumes: bool
    timeout_s: float
    yes: bool
    only: frozenset[str] | None = None  # the groups of FILE
    source: str = ""  # the name of FILE
    is_temporary: bool = False  # the daemon runs in this process and exits with it


def _hosts_replicas(read: documents.InputDocument) -> bool:
    import asyncio

    from infrakit.lifecycle import cluster

    with read.errors_located():
        return asyncio.run(cluster.find(read.text, read.source, home=discovery.home())) is not None


def _names(read: documents.InputDocument) -> frozenset[str]:
    from infrakit.spec import document

    return frozenset(group.name for group in document.parse(read.text, source=read.source))


def _destroy(status: Status, request: _Down) -> bool:
    """Destroy the selected groups, one after the other. Returns whether no other group is declared."""
    if status.halts:
        halt = status.halts[0]
        lift = "`infrakit unhalt` first"
        if request.is_temporary:
            lift = "`infrakit up` in another terminal, `infrakit unhalt`, then `infrakit down`"
        raise Refused(f"halted by {halt.who}: {halt.why}", remedy=lift)
    groups = daemon.groups(status)
    others = [group.name for group in groups if request.only is not None and group.name not in request.only]
    groups = tuple(group for group in groups if group.name not in others)
    if request.only is not None and not groups:
        click.echo(f"no group of {request.source} is declared")
        return False
    if groups:
        _refuse_own_machine()
        names = ", ".join(group.name for group in groups)
        data = "with their volumes and the data on them" if request.volumes else "keeping their volumes"
        stop = "" if others or request.is_temporary else ", and stop the daemon"
        changes.confirm(f"Destroy every instance of {names}, {data}{stop}?", yes=request.yes)
    deadline = time.monotonic() + request.timeout_s
    for group in reversed(groups):
        left = (
            f"instances of {group.name} may be left"
            if request.is_temporary
            else f"the daemon continues to destroy {group.name}"
        )
        with changes.interruption(f"interrupted: {left}; run `infrakit down` again to continue"):
            click.echo(f"destroying {group.name}: {tables.count(group.live, 'instance')}")
            daemon.change(Manager.destroy, group=group.name, why=request.why, volumes=request.volumes)
            _wait_until_destroyed(group, deadline, request.timeout_s)
        click.echo(f"{group.name} is destroyed")
    if others and not request.is_temporary:
        click.echo(f"the daemon keeps running for {', '.join(others)}")
    return not others


def _without_daemon(not_running: NotRunning, request: _Down) -> None:
    """Destroy with a temporary daemon in this process. Raises `not_running` if INFRAKIT_HOME has no declaration."""
    store = os.environ.get(daemon.STORE_VARIABLE) or os.environ.get(daemon.LEADERSHIP_VARIABLE)
    if not daemon.is_here():
        raise not_running
    if store:
        raise NotRunning(
            f"{not_running.what}, and the declaration is stored in {store}, where another replica may be the leader",
            remedy="`infrakit up` in another terminal, then `infrakit down`; or INFRAKIT_HOST=ADDRESS infrakit down",
        )
    home = discovery.home()
    if not (home / "store").is_dir():
        raise not_running
    from infrakit.lifecycle import temporary
    from infrakit.runtime import lock
    from infrakit.spi.clock import SystemClock
    from infrakit.spi.event import timestamp

    click.echo("infrakit: no daemon is running here; this command starts a temporary one", err=True)
    when = timestamp(SystemClock().now())
    halt = Halt(group=None, who=daemon.who(), when=when, why="`infrakit down` only destroys")
    try:
        with temporary.daemon(home, halt):
            status = daemon.status()
            if not status.groups:
                click.echo(f"nothing is declared in {home.absolute()}")
            else:
                _destroy(status, request._replace(is_temporary=True))
    except lock.InUse as in_use:
        stop = f"kill {in_use.pid}" if in_use.pid is not None else "stop it"
        raise Refused(
            f"{in_use.what}, and it does not answer: {not_running.what}",
            remedy=f"if it has just started, run `infrakit down` again; otherwise {stop}, then run `infrakit down`",
        ) from None
    except click.exceptions.Exit as end:
        if end.exit_code != exit_codes.INTERRUPTED:  # `changes.interruption` has already printed this hint
            click.echo("infrakit: run `infrakit down` again to continue", err=True)
        raise


def _teardown_request(
    read: documents.InputDocument, why: str | None, request: _Down, *, without_halt: bool
) -> "TeardownRequest":
    from infrakit.lifecycle.down import TeardownRequest

    why = why or f"down {read.source}"
    return read.request(
        TeardownRequest, why=why, volumes=request.volumes, unhalted=without_halt, timeout_s=request.timeout_s
    )


def _destroy_cluster(request: "TeardownRequest", read: documents.InputDocument, file: str, *, yes: bool) -> None:
    import asyncio

    from infrakit.lifecycle import down as lifecycle

    def confirm(question: str) -> None:
        changes.confirm(question, yes=yes)

    with read.errors_located():
        kept = asyncio.run(lifecycle.down(request, home=discovery.home(), report=click.echo, agree=confirm))
    if kept:
        click.echo("The volumes are kept, and on them the declaration and its halt. To restore the cluster:")
        click.echo(f"  infrakit bootstrap {'FILE' if file == '-' else file} --recover    then: infrakit unhalt")


def _refuse_own_machine() -> None:
    """Raise `Refused` if the daemon runs on a machine of its own groups: it would stop before the others do."""
    own = next((member for member in daemon.ask(Manager.members) if member.is_self), None)
    if own is not None:
        raise Refused(
            f"the daemon runs on {own.id} of {own.group}: it would destroy its own machine before the others",
            remedy="`infrakit halt` here, then destroy the group from a daemon elsewhere that has a store of its own",
        )


def _wait_until_destroyed(group: GroupStatus, deadline: float, timeout_s: float) -> None:
    progress = convergence.Progress()
    while True:
        status = daemon.status()
        now = next((each for each in status.groups if each.name == group.name), None)
        unknown = status.note and not status.groups
        if (now is None and not unknown) or (now is not None and now.live == now.want == 0 and now.converged):
            return
        progress.show(status)
        if time.monotonic() >= deadline:
            convergence.fail(convergence.pending(status), f"not destroyed after {timeout_s:g}s")
        time.sleep(convergence.POLL_S)


def _wait_until_stopped() -> None:
    deadline = time.monotonic() + _SHUTDOWN_S
    while time.monotonic() < deadline:
        try:
            daemon.status()
        except (Unreachable, OutcomeUnknown):
            return
        time.sleep(convergence.POLL_S / 5)
    raise OutcomeUnknown(f"the daemon still answers {_SHUTDOWN_S:g}s after the shutdown request")
