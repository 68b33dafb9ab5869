"""The boot script of a node: a template, `boot.sh.j2` unless another is declared, and its variables.

The leader decides here, when it prepares an instance, what the script may do: join a Swarm, with its token for workers
and the current addresses of its managers; found one, if this is the first machine of the cluster; or neither, if no
Swarm is known: then it starts with the data on its volume, or waits.
"""

import msgspec

from infrakit.clients.swarm_values import Cluster, Node
from infrakit.ensemble import boot as ensemble
from infrakit.ensemble.members import host, is_address
from infrakit.flavors.swarm import link
from infrakit.flavors.swarm.properties import PORT, Manager, Properties, Worker
from infrakit.spi import values
from infrakit.spi.token import is_from_bootstrap
from infrakit.spi.values import InstanceSpec, LogicalID
from infrakit.template import boot
from infrakit.template.boot import BootScripts, Instance, Script

DEFAULT = boot.packaged(__package__, "boot.sh.j2", "the boot script of swarm")


class SwarmView(msgspec.Struct, frozen=True, kw_only=True):
    """The Swarm as it is known when an instance is prepared; the defaults: no Swarm is known."""

    cluster: str = ""
    token: str = ""  # a secret, for workers
    managers: tuple[str, ...] = ()  # ADDRESS:PORT
    nodes: tuple[str, ...] = ()  # IDs of all listed nodes
    found: bool = False  # the machine may found one

    def __repr__(self) -> str:
        return f"SwarmView(cluster={self.cluster!r}, managers={self.managers!r}, found={self.found!r})"


EXAMPLE = SwarmView(cluster="example", token="SWMTKN-1-example", managers=("10.0.0.1:2377",), nodes=("example",))  # noqa: S106


def known(cluster: Cluster, nodes: list[Node]) -> SwarmView:
    """Collect what a Swarm that answers reports; the address of its leader comes first."""
    voters = [each for each in nodes if each.manager is not None]
    voters.sort(key=lambda each: each.manager is None or not each.manager.leader)
    addresses = [each.manager.addr for each in voters if each.manager is not None and each.manager.addr]
    return SwarmView(
        cluster=cluster.id,
        token=cluster.join_tokens.worker,
        managers=tuple(addresses),
        nodes=tuple(each.id for each in nodes),
    )


def is_first(spec: InstanceSpec, allocation: values.Allocation) -> bool:
    """Whether it is the first machine of the cluster: created alone, before any leader exists."""
    alone = allocation.logical_ids == (spec.logical_id,)
    return alone and (spec.tags or {}).get(values.TAG_HASH) == values.BOOTSTRAP


def is_from_outside(spec: InstanceSpec) -> bool:
    """Whether it is created before any leader exists, by a process that may run outside the Swarm."""
    return is_from_bootstrap(spec.tags)


def script(declared: Properties) -> Script:
    """Return the declared template, or the default."""
    return ensemble.declared_script(declared.init, declared.init_script_template_url, default=DEFAULT)


def completed(declared: Properties, instance: Instance, scripts: BootScripts, *, known: SwarmView) -> Instance:
    """Add the volume, the tags of the link, and the variables `swarm` and `default_script`."""
    spec = instance.spec
    role = "manager" if isinstance(declared, Manager) else "worker"
    attachments = declared.attachments(spec.logical_id or LogicalID(""))
    tagged = msgspec.structs.replace(spec, tags=link.tags(spec, role=role, cluster=known.cluster))
    instance = msgspec.structs.replace(instance, spec=tagged)
    variables = {"swarm": _swarm(declared, tagged, instance.index.group, role, known)}
    return ensemble.completed(instance, scripts, attachments=attachments, variables=variables, default=DEFAULT)


def _swarm(declared: Properties, spec: InstanceSpec, group: str, role: str, known: SwarmView) -> dict[str, object]:
    """Build the variable `swarm`."""
    advertise = _advertise(declared, spec)
    listen = f"{host(advertise) if is_address(advertise) else '0.0.0.0'}:{PORT}"  # noqa: S104 - no address is declared
    request = {
        "ListenAddr": listen,
        "AdvertiseAddr": advertise,
        "RemoteAddrs": list(known.managers),
        "JoinToken": known.token,
        "Availability": "active",
    }
    return {
        "role": role,
        "name": spec.logical_id or "",
        "advertise": advertise,
        "listen": listen,
        "host": declared.docker.host,
        "engine": list(declared.engine),
        "labels": link.labels(spec, group, declared.engine_labels),
        "link": link.link(spec),
        "volume": isinstance(declared, Manager) and bool(declared.volume),
        "found": known.found,
        "cluster": known.cluster,
        "managers": list(known.managers),
        "nodes": list(known.nodes) if isinstance(declared, Manager) else [],
        "token": known.token,
        "join": msgspec.json.encode(request).decode() if known.token and known.managers else "",
        "swarm_init": list(declared.swarm_init) if isinstance(declared, Manager) else [],
        "run": declared.run,
    }


def _advertise(declared: Properties, spec: InstanceSpec) -> str:
    """Return the address at which other nodes reach it; empty if the Engine is to choose one."""
    if isinstance(declared, Worker) and declared.advertise:
        return declared.advertise
    return spec.logical_id if spec.logical_id and is_address(spec.logical_id) else ""
