"""The cluster that an instance belongs to, by its token.

A token is `CLUSTER/GROUP/SLOT/REVISION-TERM`. Two installations may declare a group of the same name on one account,
so the group's tag alone does not show whose an instance is. Instances without a token, created by hand or by the
original InfraKit, name no cluster; nor do the tokens `bootstrap/...` of earlier releases.
"""

from collections.abc import Mapping

from infrakit.spi.values import BOOTSTRAP, TAG_TOKEN

_SEED = f"{BOOTSTRAP}-"  # starts the cluster names in the tokens of bootstrap and recovery


def cluster_of(tags: Mapping[str, str] | None) -> str:
    """Return the cluster that the token names; empty if there is no token, or it names none."""
    cluster, separator, _ = (tags or {}).get(TAG_TOKEN, "").partition("/")
    return cluster if separator and cluster != BOOTSTRAP else ""


def seed_cluster(unique: str) -> str:
    """Return a cluster name for machines that are created before any replica leads."""
    return f"{_SEED}{unique}"


def is_seed_cluster(cluster: str) -> bool:
    """Whether bootstrap or recovery has generated the name."""
    return cluster.startswith(_SEED)


def is_from_bootstrap(tags: Mapping[str, str] | None) -> bool:
    """Whether bootstrap or recovery has created the instance, also in an earlier release."""
    return (tags or {}).get(TAG_TOKEN, "").startswith((f"{BOOTSTRAP}/", _SEED))
