"""The schema of `Flavor.Properties` for groups with the flavor `etcd`, and its validation."""

import ipaddress
import posixpath
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from infrakit.ensemble import members
from infrakit.ensemble.boot import script_problems
from infrakit.ensemble.members import PLACEHOLDER, host
from infrakit.spec import validate
from infrakit.spi.errors import Problem
from infrakit.spi.group import Strict
from infrakit.spi.values import Allocation, Attachment, LogicalID

# Flags of etcd that define the identity of a member: the boot script sets them. A configuration file would override
# them all.
RESERVED = {
    *("name", "data-dir", "listen-client-urls", "advertise-client-urls", "listen-peer-urls"),
    *("initial-advertise-peer-urls", "initial-cluster", "initial-cluster-state", "initial-cluster-token"),
    *("force-new-cluster", "config-file", "discovery", "discovery-srv", "strict-reconfig-check"),
    *("discovery-endpoints", "discovery-token"),  # since 3.6
}

Text = Annotated[str, msgspec.Meta(min_length=1)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Properties(Strict, frozen=True, kw_only=True):
    """Properties of `etcd`. All are optional: every field has a default."""

    client_port: PortNumber = 2379  # the same for all members; a change does not move existing members
    peer_port: PortNumber = 2380  # the same for all members; a change does not move existing members
    cluster_token: str = ""  # prefix of the token of a new cluster; default: the name of the group
    volume: str = PLACEHOLDER  # ID of each member's volume, from its logical ID; empty: no volume, DataDir is required
    data_dir: str = ""  # an existing directory; default: the volume's path, as the provider reports it
    binary: Text = "etcd"  # a name or a path; etcdctl is expected in the same directory
    extra_args: tuple[Text, ...] = ()  # of etcd, such as --quota-backend-bytes=8589934592
    run: str = ""  # a shell command line that runs beside etcd for as long as etcd runs
    replica: str = ""  # the address of the InfraKit replica that Run starts, such as http://{LogicalID}:24864
    max_lag: Annotated[int, msgspec.Meta(ge=1)] = 10_000  # log entries; a member further behind the leader is unhealthy
    init: tuple[Text, ...] | Text = ()  # a boot script (a template) that replaces the built-in one
    init_script_template_url: str = ""  # the path or URL of such a boot script, instead of Init
    bootstrap: Literal["auto", "never"] = "auto"  # never: members only join an existing cluster, or wait for one

    def attachments(self, logical_id: LogicalID) -> tuple[Attachment, ...]:
        """Return the volume of one member, if volumes are declared."""
        return members.attachments(self.volume, logical_id)

    def client_url(self, logical_id: str) -> str:
        """Return the client URL of a member."""
        return f"http://{host(logical_id)}:{self.client_port}"

    def peer_url(self, logical_id: str) -> str:
        """Return the peer URL of a member, which identifies it in the member list."""
        return f"http://{host(logical_id)}:{self.peer_port}"

    def replica_of(self, logical_id: str) -> str:
        """Return the address of the replica beside a member; empty if none runs there."""
        return self.replica.replace(PLACEHOLDER, host(logical_id) if self.replica.startswith("http") else logical_id)

    @property
    def ctl(self) -> str:
        """The path of etcdctl, which comes with etcd."""
        return posixpath.join(posixpath.dirname(self.binary), "etcdctl")


def decode(raw: msgspec.Raw) -> Properties:
    """Decode declared properties. Raises `InvalidSpec`."""
    return validate.properties(raw, Properties)


def listening(logical_id: str) -> str:
    """Return the host part of listen URLs. etcd binds to addresses only: for a host name, to all interfaces."""
    try:
        ipaddress.ip_address(logical_id)
    except ValueError:
        return "0.0.0.0"  # noqa: S104 - a host name was declared
    return host(logical_id)


def problems(properties: Properties, allocation: Allocation) -> Iterator[Problem]:
    """Yield all problems that the types do not catch, in the order of the properties."""
    yield from members.address_problems(allocation, members="members of etcd", names=True)
    if properties.client_port == properties.peer_port:
        message = f"{properties.peer_port} is ClientPort already"
        yield Problem(path="PeerPort", message=message, hint="choose another number")
    yield from _volume(properties, allocation)
    yield from _replica(properties, allocation)
    yield from script_problems(properties.init, properties.init_script_template_url)
    for position, argument in enumerate(properties.extra_args):
        name = argument.lstrip("-").partition("=")[0]
        if name in RESERVED:
            message = f"--{name} is set by the boot script"
            yield Problem(path=f"ExtraArgs[{position}]", message=message, hint="remove it")


def _replica(properties: Properties, allocation: Allocation) -> Iterator[Problem]:
    if not properties.replica:
        return
    logical_ids = allocation.logical_ids or ()
    hint = f"such as http://{PLACEHOLDER}:24864, or unix:///run/infrakit/{PLACEHOLDER}/group"
    if PLACEHOLDER not in properties.replica and len(logical_ids) > 1:
        message = f"{properties.replica!r} is the same for every member"
    elif "{" in properties.replica.replace(PLACEHOLDER, "") or (
        logical_ids and not _is_replica_address(properties.replica_of(logical_ids[0]))
    ):
        message = f"{properties.replica!r} is no address of a replica"
    else:
        return
    yield Problem(path="Replica", message=message, hint=hint)


def _is_replica_address(text: str) -> bool:
    """Whether it is `unix:///PATH` or `http(s)://HOST:PORT`."""
    if "{" in text:
        return False
    if text.startswith("unix:///"):
        return True
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port is not None
    except ValueError:
        return False


def _volume(properties: Properties, allocation: Allocation) -> Iterator[Problem]:
    yield from members.volume_problems(properties.volume, allocation, example="etcd")
    if not properties.volume and not properties.data_dir:
        yield Problem(path="DataDir", message="neither Volume nor DataDir is declared", hint="a path on the machine")
    if properties.data_dir and not posixpath.isabs(properties.data_dir):
        yield Problem(path="DataDir", message=f"{properties.data_dir!r} is not absolute", hint="begin it with /")
