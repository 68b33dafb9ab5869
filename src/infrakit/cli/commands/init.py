"""`infrakit init`: turns a bare machine into the first node of a cluster, which then creates its other nodes."""

import sys
from typing import TYPE_CHECKING

import click

from infrakit.cli import arguments, documents, numbers, options, rendering, seed_script
from infrakit.rpc import discovery

if TYPE_CHECKING:
    from infrakit.lifecycle.first_machine import BootstrapRequest


@click.command
@arguments.file
@options.template
@click.option("--group", default="", metavar="NAME", help="The node's group; default: the only quorum, or only group.")
@click.option("--logical-id", default="", metavar="ID", help="Logical ID of the first node; default: the first pet.")
@click.option("--sequence", type=numbers.whole(1), metavar="N", help="Sequence number of the first node, from 1.")
@click.option("--store", envvar="INFRAKIT_STORE", default="", metavar="URL", help="Store of the cluster's replicas.")
@click.option("--start", is_flag=True, help="Create the node on this machine, instead of printing the script.")
@click.option("--boot", metavar="SCRIPT", type=click.Path(), help="With --start: the node's prepared boot script.")
@click.option("--timeout", type=numbers.duration, default="2m", show_default=True, help="Timeout for the store.")
@options.message()
def init(  # noqa: PLR0917
    file: str,
    template_options: rendering.TemplateOptions,
    group: str,
    logical_id: str,
    sequence: int | None,
    store: str,
    start: bool,
    boot: str | None,
    timeout: float,
    why: str | None,
) -> None:
    """Print a script that turns a bare machine into FILE's first node.

    Run the script with `sh` on that machine, which needs only `infrakit` installed. It contains the declaration and the
    node's boot script, the same that later nodes get. It creates the node with the instance plugin of that machine and
    with the tags by which InfraKit adopts it, waits for the store that the node hosts, and commits FILE to it. The
    replica that runs on the node creates the other nodes. Idempotent: if the store answers, no node is created. Without
    --store, the replicas that FILE's flavor names are used in its place.

    \b
    Example:
      infrakit init infrakit.yaml --store etcd://127.0.0.1:2379/infrakit | sh
    """
    if boot and not start:
        raise click.UsageError("--boot needs --start.")
    document = documents.read(file, template_options)
    import asyncio

    from infrakit.lifecycle import bootstrap as lifecycle
    from infrakit.lifecycle.first_machine import BootstrapRequest
    from infrakit.lifecycle.seed import SeedChoice

    script = documents.read(boot).text if boot else ""
    seed = SeedChoice(logical_id=logical_id, sequence=sequence or 0, script=script)
    why = why or f"init {document.source}"
    request = document.request(BootstrapRequest, why=why, group=group, seed=seed, timeout_s=timeout)
    with document.errors_located():
        if start:
            asyncio.run(lifecycle.run(request, store=store, home=discovery.home(), report=click.echo))
        else:
            sys.stdout.write(_script(request, store, timeout))


def _script(request: "BootstrapRequest", store: str, timeout_s: float) -> str:
    import asyncio

    from infrakit.lifecycle import bootstrap as lifecycle
    from infrakit.runtime import sources

    sources.check_store(store)  # report an invalid URL here, not only on the machine that runs the script
    prepared = asyncio.run(lifecycle.prepared(request, home=discovery.home()))
    node = prepared.node
    which = ("--logical-id", str(node.logical_id)) if node.logical_id else ("--sequence", str(node.sequence))
    words = ["--group", prepared.group.name, *which, "--timeout", f"{timeout_s:g}s", "--message", request.why]
    if store:
        words += ["--store", store]
    return seed_script.text(
        what=f"{node}, the first node of the group {prepared.group.name}",
        plugin=prepared.group.properties.instance.plugin,
        spec=prepared.spec,
        declaration=request.text,
        words=words,
    )
