"""`infrakit adopt`: make the instances of another cluster members of this one."""

import click

from infrakit.cli import arguments, changes, daemon, options
from infrakit.spi.manager import Manager


@click.command
@arguments.cluster
@click.option("--account", metavar="PLUGIN", help="CLUSTER is the identity of this instance plugin's account instead.")
@options.message(required=True)
@options.output
def adopt(cluster: str, account: str | None, why: str, output_format: str) -> None:
    """Make the instances of another cluster members of this one.

    An instance belongs to the cluster that its token names; `infrakit why GROUP` shows the name. From now on, those of
    CLUSTER belong to this one: with the tag of a declared group they are its members, and are healed, updated and
    destroyed like all others. Adopt a cluster only if no InfraKit manages it any more, for example because its store
    was lost.

    With --account, adopt another account of an instance plugin: when the identity of the account changes, for example
    because of other credentials, nothing is created or destroyed until the new identity is adopted.

    \b
    Example:
      infrakit adopt 5f0c2a91 -m "its store was lost"
    """
    if account:
        committed = daemon.change(Manager.adopt_account, plugin=account, identity=cluster, why=why)
        changes.done(committed, output_format, f"Adopted the account {cluster} of {account}")
        return
    committed = daemon.change(Manager.adopt, cluster=cluster, why=why)
    changes.done(committed, output_format, f"Adopted the cluster {cluster}")
