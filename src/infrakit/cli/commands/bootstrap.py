"""`infrakit bootstrap`: creates the first machine of a cluster that hosts its own store and replicas."""

import click

from infrakit.cli import arguments, documents, numbers, options, rendering
from infrakit.rpc import discovery


@click.command
@arguments.file
@options.template
@click.option("--store", envvar="INFRAKIT_STORE", default="", metavar="URL", help="Store of the cluster's replicas.")
@click.option("--group", default="", metavar="NAME", help="Group that hosts the store; default: the only quorum.")
@click.option("--recover", is_flag=True, help="Recreate missing machines of a group that has lost its quorum.")
@click.option("--despite-halt", is_flag=True, help="Create machines although the declaration was last read halted.")
@click.option("--timeout", type=numbers.duration, default="2m", show_default=True, help="Timeout for the store.")
@options.message()
def bootstrap(  # noqa: PLR0917
    file: str,
    template_options: rendering.TemplateOptions,
    store: str,
    group: str,
    recover: bool,
    despite_halt: bool,
    timeout: float,
    why: str | None,
) -> None:
    """Create FILE's first machine and commit FILE to its store.

    The replicas on the cluster create the rest. Idempotent: if the store answers, no machine is created. Without
    --store, the replicas that FILE's flavor names are used in its place.

    To recover a cluster that has lost its quorum, use --recover: missing machines are recreated one after the other,
    with their volumes, until there is a quorum. Without it, the command refuses if the provider reports volumes of
    other members: a first machine without its volume would found a second cluster beside them.

    If a replica ran in this home, and the declaration that it read last was halted, nothing is created without
    --despite-halt.

    \b
    Example:
      infrakit bootstrap infrakit.yaml --store etcd://127.0.0.1:2379/infrakit
    """
    document = documents.read(file, template_options)
    import asyncio

    from infrakit.lifecycle import bootstrap as lifecycle
    from infrakit.lifecycle.first_machine import BootstrapRequest

    why = why or f"bootstrap {document.source}"
    request = document.request(
        BootstrapRequest, why=why, group=group, recover=recover, despite_halt=despite_halt, timeout_s=timeout
    )
    with document.errors_located():
        asyncio.run(lifecycle.run(request, store=store, home=discovery.home(), report=click.echo))
