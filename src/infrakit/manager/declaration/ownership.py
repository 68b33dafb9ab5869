"""The adoption of other clusters' instances, as changes of the record.

The ledger names the cluster that tokens carry. An adopted cluster is another such name: of an installation whose store
was lost, or that bootstrap has generated for the machines that it creates before there is a ledger.
"""

import msgspec

from infrakit.manager.declaration import changes
from infrakit.manager.declaration.record import DeclarationRecord, RecordChange
from infrakit.spi import errors
from infrakit.spi.group import Group

NAME_MAX = 100  # characters


def adopt(cluster: str) -> RecordChange:
    """Declare that the instances whose tokens name that cluster belong to this one. Raises `InvalidSpec`."""
    if not cluster.isprintable() or not 0 < len(cluster) <= NAME_MAX or "/" in cluster or cluster.strip() != cluster:
        raise errors.invalid(
            "CLUSTER",
            f"{cluster!r} is not a name of a cluster",
            hint="name the first part of the instance's token: infrakit why GROUP shows it",
        )

    def change(record: DeclarationRecord) -> DeclarationRecord:
        if cluster in record.adopted:
            return record
        return msgspec.structs.replace(record, adopted=(*record.adopted, cluster))

    return change


def adopt_account(plugin: str, identity: str) -> RecordChange:
    """Declare that the account of an instance plugin has that identity now. Raises `Refused` without an identity."""
    if not identity or not plugin:
        raise errors.Refused("no identity of an account", remedy="copy the command that infrakit status shows")
    return lambda record: msgspec.structs.replace(record, accounts=record.accounts | {plugin: identity})


def declare(groups: tuple[Group, ...], adopts: str = "") -> RecordChange:
    """Declare these groups and, unless it is empty, adopt a cluster in the same change."""
    declared = changes.declare(groups)
    if not adopts:
        return declared
    adopted = adopt(adopts)
    return lambda record: adopted(declared(record))
