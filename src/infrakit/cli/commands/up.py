"""`infrakit up`: runs a daemon and its view in one process, or shows a cluster that hosts its own daemons."""

import os
import random
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from infrakit.cli import arguments, documents, exit_codes, numbers, options, rendering
from infrakit.rpc import discovery

if TYPE_CHECKING:
    from infrakit.lifecycle.replicas import SelfHosted


def supervise_timeout(text: str) -> float:
    """Parse the TIMEOUT of --supervise; a FILE in its place is rejected with the commands to use instead."""
    try:
        return numbers.duration(text)
    except click.BadParameter:
        if not text or text[0].isdigit():
            raise
        raise click.BadParameter(
            f"{text!r} is not a duration such as 90s: --supervise takes a TIMEOUT and no FILE. "
            f"Run `infrakit up --supervise=60s`, and in a second terminal `infrakit commit {text}`."
        ) from None


@click.command
@arguments.optional_file
@options.template
@options.message()
@options.destroys
@click.option(
    "--supervise",
    type=supervise_timeout,
    is_flag=False,
    flag_value="60s",
    metavar="[TIMEOUT]",
    help="Restart the daemon when it crashes, or makes no progress for TIMEOUT (default 60s). Not with FILE.",
)
@options.replica
@options.listen
def up(  # noqa: PLR0917
    file: str | None,
    template_options: rendering.TemplateOptions,
    why: str | None,
    destroys: int,
    supervise: float | None,
    store: str,
    leadership: str,
    name: str | None,
    advertise: str,
    accept_store: bool,
    **listen: Any,
) -> None:
    """Run a daemon in the foreground and commit FILE.

    Shows the actual state, the current actions and their reasons. FILE is a path, - or a URL; without it, the daemon
    continues with the current declaration. Ctrl-C stops the daemon and leaves the instances running; `infrakit up`
    without FILE adopts them again, and `infrakit down` destroys them.

    If FILE's flavor hosts replicas of InfraKit on its own machines, and neither --store nor --leadership is given, no
    daemon is started here: FILE is committed to those replicas. If none answers, the first machine is created, as
    `infrakit bootstrap` does. Ctrl-C then leaves the cluster running, and `infrakit down FILE` destroys it.

    \b
    Example:
      infrakit up examples/quickstart/infrakit.yaml
    """
    listening = options.listening(listen)
    if supervise is not None:
        _supervise(supervise, file)
    read = (
        documents.read(file, template_options)
        if file is not None
        else documents.InputDocument("", "the current declaration")
    )
    if file is not None and not store and not leadership and (hosts := _find_self_hosted(read)) is not None:
        if listening is not None or accept_store:
            raise click.UsageError(
                "FILE's cluster hosts its own daemons, and none is started here: omit the options of a daemon."
            )
        _follow_self_hosted(read, hosts, file, why or f"up {read.source}", destroys)
    from infrakit.cli import live
    from infrakit.lifecycle import up as lifecycle
    from infrakit.lifecycle.request import DocumentRequest
    from infrakit.runtime import sources

    named = {"name": name} if name else {}
    place = sources.Place(store=store, leadership=leadership, advertise=advertise, accept_store=accept_store, **named)
    sources.check(place)
    lifecycle.check_home(discovery.home())
    document = read.request(DocumentRequest, why=why or f"up {read.source}", destroys=destroys)
    with read.errors_located(), live.open_view(read.source) as view:
        try:
            code = lifecycle.run(
                document if file is not None else None,
                home=discovery.home(),
                place=place,
                view=view,
                listen=listening,
            )
        except KeyboardInterrupt:
            code = 0
    for line in live.closing_lines(view.last):
        click.echo(line)
    raise click.exceptions.Exit(code)


def _supervise(timeout_s: float, file: str | None) -> None:
    """Run the same command as a process that is supervised. Returns in that process, and under systemd's watchdog."""
    if file is not None:
        raise click.UsageError(
            "--supervise takes no FILE, because each restart would commit it again. "
            f"Run `infrakit up --supervise`, and in a second terminal `infrakit commit {file}`."
        )
    if timeout_s < 1:
        raise click.UsageError("--supervise needs a TIMEOUT of at least one second.")
    from infrakit.runtime import watchdog

    if watchdog.interval_s(os.environ, os.getpid()) is not None:
        return
    import logging

    from infrakit.runtime import restarts

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
    code = restarts.supervise(sys.argv[1:], os.environ, timeout_s=timeout_s, rng=random.SystemRandom())
    raise click.exceptions.Exit(code)


def _find_self_hosted(read: documents.InputDocument) -> "SelfHosted | None":
    import asyncio

    from infrakit.lifecycle import cluster

    return asyncio.run(cluster.find(read.text, read.source, home=discovery.home()))


def _follow_self_hosted(
    read: documents.InputDocument, hosts: "SelfHosted", file: str, why: str, destroys: int
) -> NoReturn:
    """Commit to a cluster that hosts its own daemons, create its first machine if necessary, and show its state."""
    import asyncio

    from infrakit.cli import live, reports
    from infrakit.lifecycle import cluster
    from infrakit.lifecycle.first_machine import BootstrapRequest

    since = cluster.now()
    request = read.request(BootstrapRequest, why=why, group=hosts.first, destroys=destroys)
    try:
        with read.errors_located():
            committed = asyncio.run(cluster.start(request, hosts, home=discovery.home(), report=click.echo))
    except KeyboardInterrupt:
        click.echo("Interrupted. Nothing is rolled back; run the same command to continue.")
        raise click.exceptions.Exit(exit_codes.INTERRUPTED) from None
    for line in reports.committed(committed, f"Committed {read.source}"):
        click.echo(line)
    with live.open_view(read.source, live.ELSEWHERE) as view:
        cluster.watch(hosts.places, view, since=since)
    for line in live.cluster_closing_lines(view.last, file, hosts.places[0]):
        click.echo(line)
    raise click.exceptions.Exit(exit_codes.DONE)
