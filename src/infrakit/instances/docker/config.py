"""Translates an instance's spec and properties into the one API call that creates the container.

The name is derived from the token, and the Engine accepts a name once: that makes the creation idempotent. A boot
script is uploaded into the container before it starts, and is its entrypoint: no listing shows its length or content.
Its arguments are the command that would run without it, so that `exec "$@"` continues with that command.
"""

import hashlib
import io
import ipaddress
import re
import tarfile
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from infrakit.clients.docker import Image
from infrakit.instances.docker import records
from infrakit.instances.docker.properties import Properties, VolumeMount
from infrakit.spi.errors import Refused
from infrakit.spi.values import TAG_GROUP, TAG_SLOT, TAG_TOKEN, Attachment, InstanceID, InstanceSpec

SCRIPT = "/infrakit/init"
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
_HOST = re.compile(r"(?=.{1,63}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_SHELL = "/bin/sh"


def instance_id(spec: InstanceSpec) -> InstanceID:
    """Derive the ID from the token; without a token the ID is random."""
    token = (spec.tags or {}).get(TAG_TOKEN)
    digest = hashlib.sha256(token.encode()).hexdigest() if token else uuid.uuid4().hex
    return InstanceID(f"infrakit-{digest[:12]}")


def check(spec: InstanceSpec, declared: Properties) -> None:
    """Raise `Refused` with every problem of the spec, before anything is created."""
    problems = [*_wrong_attachments(spec.attachments or (), declared)]
    if spec.logical_id is not None:
        problems += _wrong_logical_id(spec.logical_id, declared)
    if "\0" in spec.init:
        problems.append("Init holds a NUL byte, which no script can")
    problems += [f"the tag {name} has a prefix that is the provider's own" for name in spec.tags or {} if _is_own(name)]
    if problems:
        raise Refused("; ".join(problems), where="docker")


def _is_own(tag: str) -> bool:
    return tag.startswith(records.OWN) or not tag


def _wrong_attachments(attachments: tuple[Attachment, ...], declared: Properties) -> list[str]:
    problems = [
        f"the attachment {each.id} is of type {each.type!r}; the only supported type is {records.VOLUME!r}"
        for each in attachments
        if each.type != records.VOLUME
    ]
    problems += [
        f"{each.id!r} is not a valid name of a volume" for each in attachments if not _VOLUME.fullmatch(each.id)
    ]
    if len(attachments) > len(declared.volumes):
        problems.append(
            f"there are {len(attachments)} attachments and {len(declared.volumes)} mount points: declare "
            "Volumes: [{Target: /path}] in the properties, one for each"
        )
    return problems


def _wrong_logical_id(logical_id: str, declared: Properties) -> list[str]:
    address = address_of(logical_id)
    if address is None:
        return [] if _HOST.fullmatch(logical_id) else [f"{logical_id!r} is neither an address nor a host name"]
    network = declared.network
    if network is None or network.name in ("none", "host", "bridge"):
        return [f"the fixed address {address} requires a network: declare Network: {{Name: ...}} in the properties"]
    if network.create is not None and network.create.subnet:
        subnet = ipaddress.ip_network(network.create.subnet)
        if address not in subnet:
            return [f"the address {address} is outside the network {network.name}, {subnet}"]
        if str(address) == network.create.gateway:
            return [f"the address {address} is the gateway of the network {network.name}"]
    return []


def address_of(logical_id: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse a logical ID that is an address; None if it is a host name."""
    try:
        return ipaddress.ip_address(logical_id)
    except ValueError:
        return None


def container(id_: InstanceID, spec: InstanceSpec, declared: Properties, image: Image | None) -> dict[str, Any]:
    """Build the body of the create call; `image` provides the command that a boot script continues with."""
    attachments = spec.attachments or ()
    places = list(zip(attachments, declared.volumes, strict=False))
    name = spec.logical_id if spec.logical_id is not None and address_of(spec.logical_id) is None else None
    config: dict[str, Any] = {
        "Image": declared.image,
        "Labels": _labels(id_, spec),
        "Env": [*declared.env, *_environment(id_, spec, {each.id: to.target for each, to in places})],
        "User": declared.user,
        "WorkingDir": declared.working_dir,
        "Tty": declared.tty,
        "StopTimeout": declared.stop_timeout,
        "ExposedPorts": declared.exposed_ports,
        "HostConfig": _host_config(declared, places),
        **_command(spec, declared, image),
        **_networking(spec, declared, name),
    }
    if name is not None:
        config["Hostname"] = name
    if declared.stop_signal:
        config["StopSignal"] = declared.stop_signal
    if declared.healthcheck is not None:
        config["Healthcheck"] = msgspec.to_builtins(declared.healthcheck)
    return config


def _labels(id_: InstanceID, spec: InstanceSpec) -> dict[str, str]:
    labels = {**(spec.tags or {}), records.ID: id_}
    if spec.logical_id is not None:
        labels[records.LOGICAL_ID] = spec.logical_id
    if spec.attachments:
        labels[records.ATTACHMENTS] = msgspec.json.encode(spec.attachments).decode()
    return labels


def _environment(id_: InstanceID, spec: InstanceSpec, volumes: Mapping[str, str]) -> list[str]:
    """Return the variables that identify the instance, named as in the other providers."""
    tags = spec.tags or {}
    known = {
        "INFRAKIT_INSTANCE_ID": id_,
        "INFRAKIT_LOGICAL_ID": spec.logical_id,
        "INFRAKIT_GROUP": tags.get(TAG_GROUP),
        "INFRAKIT_SEQUENCE": tags.get(TAG_SLOT),
        "INFRAKIT_VOLUME": next(iter(volumes.values())) if len(volumes) == 1 else None,
    }
    known |= {f"INFRAKIT_VOLUME_{re.sub('[^A-Z0-9_]', '_', name.upper())}": path for name, path in volumes.items()}
    return [f"{name}={value}" for name, value in known.items() if value is not None]


def _command(spec: InstanceSpec, declared: Properties, image: Image | None) -> dict[str, Any]:
    if not spec.init.strip():
        command = {"Entrypoint": list(declared.entrypoint), "Cmd": list(declared.cmd)}
        return {name: words for name, words in command.items() if words}
    entrypoint, cmd = declared.entrypoint, declared.cmd
    if image is not None and not entrypoint:
        entrypoint, cmd = image.entrypoint, cmd or image.cmd
    entry = [SCRIPT] if spec.init.startswith("#!") else [_SHELL, SCRIPT]
    return {"Entrypoint": entry, "Cmd": [*entrypoint, *cmd]}


def _host_config(declared: Properties, places: list[tuple[Attachment, VolumeMount]]) -> dict[str, Any]:
    host: dict[str, Any] = msgspec.to_builtins(declared.host_config)
    host["RestartPolicy"] = {"Name": "no"}
    mounts = [_mount(each, to) for each, to in places]
    if mounts:
        host["Mounts"] = [*host.get("Mounts", ()), *mounts]
    if declared.network is not None:
        host["NetworkMode"] = declared.network.name
    return host


def _mount(attachment: Attachment, to: VolumeMount) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if to.driver or to.driver_opts:
        options["DriverConfig"] = {"Name": to.driver or "local", "Options": to.driver_opts}
    return {"Type": "volume", "Source": attachment.id, "Target": to.target, "VolumeOptions": options}


def _networking(spec: InstanceSpec, declared: Properties, name: str | None) -> dict[str, Any]:
    network = declared.network
    if network is None or network.name in ("none", "host", "bridge"):
        return {}
    endpoint: dict[str, Any] = {"Aliases": [*network.aliases, *([name] if name is not None else [])]}
    address = address_of(spec.logical_id) if spec.logical_id is not None else None
    if address is not None:
        endpoint["IPAMConfig"] = {f"IPv{address.version}Address": str(address)}
    return {"NetworkingConfig": {"EndpointsConfig": {network.name: endpoint}}}


def network(declared: Properties) -> dict[str, Any] | None:
    """Build the body of the call that creates the network; None if creating it is not declared."""
    if declared.network is None or declared.network.create is None:
        return None
    create = declared.network.create
    pool = {"Subnet": create.subnet, "Gateway": create.gateway, "IPRange": create.ip_range}
    pool = {name: value for name, value in pool.items() if value}
    return {
        "Name": declared.network.name,
        "Driver": create.driver,
        "Internal": create.internal,
        "EnableIPv6": ":" in create.subnet,
        "Options": create.options,
        "IPAM": {"Config": [pool] if pool else []},
        "Labels": {f"{records.OWN}network": declared.network.name},
    }


def script(init: str, *, readable: bool) -> bytes:
    """Pack the boot script into a tar archive; with `readable`, users other than root may read it."""
    content = init.encode()
    place = tarfile.TarInfo(SCRIPT.rpartition("/")[0].lstrip("/"))
    place.type, place.mode = tarfile.DIRTYPE, 0o755
    file = tarfile.TarInfo(SCRIPT.lstrip("/"))
    file.size, file.mode = len(content), 0o755 if readable else 0o700
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(place)
        archive.addfile(file, io.BytesIO(content))
    return packed.getvalue()
