"""The boot script of a node: a template, `boot.sh.j2` unless the operator declares another, and what it may know.

What it may do is decided here, when an instance is prepared, by who leads: to join a Swarm, with its token for workers
and the addresses of its managers as they are now; to found one, if it is the first machine of all; or neither, when
nobody knows a Swarm: then it starts with the data that is on its volume, or waits.
"""

import msgspec

from infrakit.clients.swarm_values import Cluster, Node
from infrakit.flavors.swarm import link
from infrakit.flavors.swarm.properties import PORT, Manager, Properties, Worker, host, is_address
from infrakit.spi import values
from infrakit.spi.values import InstanceSpec, LogicalID
from infrakit.template import boot
from infrakit.template.boot import BootScripts, Instance, Script

DEFAULT = boot.packaged(__package__, "boot.sh.j2", "the boot script of swarm")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The Swarm as it is when an instance is prepared; the defaults: nobody knows one."""

    cluster: str = ""
    token: str = ""  # a secret, for workers
    managers: tuple[str, ...] = ()  # ADDRESS:PORT
    nodes: tuple[str, ...] = ()  # IDs of all that are listed
    found: bool = False  # the machine may found one

    def __repr__(self) -> str:
        return f"Known(cluster={self.cluster!r}, managers={self.managers!r}, found={self.found!r})"


EXAMPLE = Known(cluster="example", token="SWMTKN-1-example", managers=("10.0.0.1:2377",), nodes=("example",))  # noqa: S106


def known(cluster: Cluster, nodes: list[Node]) -> Known:
    """Of a Swarm that answers."""
    voters = [each for each in nodes if each.manager is not None]
    voters.sort(key=lambda each: each.manager is None or not each.manager.leader)
    addresses = [each.manager.addr for each in voters if each.manager is not None and each.manager.addr]
    return Known(
        cluster=cluster.id,
        token=cluster.join_tokens.worker,
        managers=tuple(addresses),
        nodes=tuple(each.id for each in nodes),
    )


def is_first(spec: InstanceSpec, allocation: values.Allocation) -> bool:
    """Whether it is made as if its group had no other member, before anybody leads."""
    alone = allocation.logical_ids == (spec.logical_id,)
    return alone and (spec.tags or {}).get(values.TAG_HASH) == values.BOOTSTRAP


def is_from_outside(spec: InstanceSpec) -> bool:
    """Whether it is made before anybody leads, by somebody who need not be a node of the Swarm."""
    return (spec.tags or {}).get(values.TAG_TOKEN, "").startswith(f"{values.BOOTSTRAP}/")


def script(declared: Properties) -> Script:
    """The template that is declared."""
    if declared.init_script_template_url:
        return Script(path="InitScriptTemplateURL", address=declared.init_script_template_url)
    if declared.init:
        text = declared.init if isinstance(declared.init, str) else "\n".join(declared.init)
        return Script(path="Init", text=text)
    return DEFAULT


def completed(declared: Properties, instance: Instance, scripts: BootScripts, *, known: Known) -> Instance:
    """With the volume, the tags of the link, `swarm` and `default_script`."""
    spec = instance.spec
    role = "manager" if isinstance(declared, Manager) else "worker"
    attachments = (*(spec.attachments or ()), *declared.attachments(spec.logical_id or LogicalID("")))
    tags = link.tags(spec, role=role, cluster=known.cluster)
    spec = msgspec.structs.replace(spec, attachments=attachments or None, tags=tags)
    more = {"swarm": _swarm(declared, spec, instance.index.group, role, known)}
    plain = msgspec.structs.replace(instance, spec=spec, more=more)
    return msgspec.structs.replace(plain, more={**more, "default_script": scripts.default(DEFAULT, plain)})


def _swarm(declared: Properties, spec: InstanceSpec, group: str, role: str, known: Known) -> dict[str, object]:
    """What the flavor knows."""
    advertise = _advertise(declared, spec)
    listen = f"{host(advertise) if is_address(advertise) else '0.0.0.0'}:{PORT}"  # noqa: S104 - it was not told
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
    """Where the others reach it; empty: the Engine chooses."""
    if isinstance(declared, Worker) and declared.advertise:
        return declared.advertise
    return spec.logical_id if spec.logical_id and is_address(spec.logical_id) else ""
