"""`infrakit adopt`: make the instances of another cluster members of this one."""

import click

from infrakit.cli import changes, daemon, options
from infrakit.spi.manager import Manager


@click.command
@click.argument("cluster")
@options.message(required=True)
@options.output
def adopt(cluster: str, why: str, output_format: str) -> None:
    """Make the instances of another cluster members of this one.

    An instance belongs to the cluster that its token names; `infrakit why GROUP` shows the name. From now on, those of
    CLUSTER belong to this one: with the tag of a declared group they are its members, and are healed, updated and
    destroyed like all others. Adopt a cluster only if no InfraKit manages it any more, for example because its store
    was lost.

    \b
    Example:
      infrakit adopt 5f0c2a91 -m "its store was lost"
    """
    committed = daemon.change(Manager.adopt, cluster=cluster, why=why)
    changes.done(committed, output_format, f"Adopted the cluster {cluster}")
