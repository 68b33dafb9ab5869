"""`infrakit bootstrap`: the first machine of a cluster that keeps the declaration itself."""

import click

from infrakit.cli import arguments, daemon, documents, numbers, options, rendering
from infrakit.rpc import discovery


@click.command
@arguments.file
@options.template
@click.option("--store", envvar="INFRAKIT_STORE", default="", metavar="URL", help="Where its replicas look for it.")
@click.option("--group", default="", metavar="NAME", help="The group that keeps the store; left out: the only quorum.")
@click.option("--recover", is_flag=True, help="Make missing machines of a group that has lost its quorum.")
@click.option("--timeout", type=numbers.duration, default="2m", show_default=True, help="For the store to answer.")
@options.message()
def bootstrap(  # noqa: PLR0917
    file: str, asked: rendering.Asked, store: str, group: str, recover: bool, timeout: float, why: str | None
) -> None:
    """Make FILE's first machine, and declare FILE in its store.

    The replicas on the cluster do the rest. Safe to repeat: where the store answers, nothing is made. Without --store,
    the replicas that FILE's flavor names are asked in its place.
    Once there has been a cluster, say --recover: missing machines are made one after the other, with their volumes,
    until there is a quorum again. Without it, the command refuses where other members have left volumes, as far as the
    provider can tell: a first machine that has lost its own would found a second cluster beside them.

    \b
    Example:
      infrakit bootstrap infrakit.yaml --store etcd://127.0.0.1:2379/infrakit
    """
    document = documents.read(file, asked)
    import asyncio

    from infrakit.lifecycle import bootstrap as lifecycle
    from infrakit.lifecycle.first_machine import BootstrapRequest

    plan = BootstrapRequest(
        text=document.text,
        source=document.source,
        who=daemon.who(),
        why=why or f"bootstrap {document.source}",
        group=group,
        recover=recover,
        patience_s=timeout,
    )
    with document.placed():
        asyncio.run(lifecycle.run(plan, store=store, home=discovery.home(), report=click.echo))
