"""The boot script of a member: who it is and whom it knows, as shell variables, before the fixed text of `boot.sh`."""

import functools
import importlib.resources
import shlex
from collections.abc import Iterable

from infrakit.flavors.etcd.properties import Properties, listening
from infrakit.spi.values import LogicalID


def script(
    properties: Properties, *, logical_id: LogicalID, first: LogicalID, others: Iterable[LogicalID], token: str
) -> str:
    """For `sh`. `first` is the only one that may found a cluster, once all `others` have no data either."""
    peers = list(others)
    bind = listening(logical_id)
    variables = {
        "name": logical_id,
        "client": properties.client_url(logical_id),
        "peer": properties.peer_url(logical_id),
        "listen_client": f"http://{bind}:{properties.client_port}",
        "listen_peer": f"http://{bind}:{properties.peer_port}",
        "others": " ".join(peers),
        "endpoints": ",".join(properties.client_url(each) for each in (*peers, logical_id)),
        "first_peer": "" if first == logical_id else properties.peer_url(first),
        "bootstrap": properties.bootstrap,
        "token": properties.cluster_token or token,
        "data": properties.data_dir,
        "etcd": properties.binary,
        "etcdctl": properties.ctl,
        "run": properties.run,
    }
    lines = ["#!/bin/sh", *(f"{name}={shlex.quote(value)}" for name, value in variables.items())]
    lines.append(shlex.join(("set", "--", *properties.extra_args)))
    return "\n".join((*lines, "", _fixed()))


@functools.cache
def _fixed() -> str:
    return (importlib.resources.files(__package__) / "boot.sh").read_text()
