"""The schema of `Instance.Properties` for groups whose instances are containers.

The names are those of the Docker Engine's API. The Engine ignores unknown fields, so that a misspelt limit would have
no effect: here an unknown field is an error.
"""

import ipaddress
import posixpath
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from infrakit.spec import validate
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.group import Strict

RESERVED = "INFRAKIT_"  # prefix of the environment variables that InfraKit sets
GRACE_S_MAX = 90  # a destroy call must return within two minutes

Addresses = ipaddress.IPv4Network | ipaddress.IPv6Network
Text = Annotated[str, msgspec.Meta(min_length=1)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**60)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="a name of letters and digits")]


class Api(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the types of the Engine's API: for an omitted field, the Engine's default applies."""


class Device(Api, frozen=True, kw_only=True, omit_defaults=False):
    """A device of the host."""

    path_on_host: Text  # such as /dev/kvm
    path_in_container: Text  # usually the same path
    cgroup_permissions: str = "rwm"  # read, write, mknod


class LogConfig(Api, frozen=True, kw_only=True):
    """The log driver for the output of a container."""

    type: Text  # such as json-file, local or journald
    config: dict[str, str] = msgspec.field(default_factory=dict)  # such as max-size: 10m


class Ulimit(Api, frozen=True, kw_only=True):
    """A limit of the operating system."""

    name: Text  # such as nofile
    soft: int
    hard: int


class Mount(Api, frozen=True, kw_only=True):
    """A volume, a directory of the host, or a tmpfs."""

    type: Literal["bind", "volume", "tmpfs", "npipe", "cluster"]
    target: Text  # the path inside the container
    source: str = ""  # a path of the host, or the name of a volume that all instances share
    read_only: bool = False
    consistency: str = ""
    bind_options: dict[str, Any] | None = None
    volume_options: dict[str, Any] | None = None
    tmpfs_options: dict[str, Any] | None = None


class PortBinding(Api, frozen=True, kw_only=True):
    """A port of the host."""

    host_ip: str = msgspec.field(default="", name="HostIp")
    host_port: str = ""  # empty: any free port


class RestartPolicy(Api, frozen=True, kw_only=True):
    """Must be `no`: InfraKit replaces containers that exit."""

    name: Literal["no", ""] = "no"
    maximum_retry_count: int = 0


class HostConfig(Api, frozen=True, kw_only=True):
    """How the host runs the container. Meanings and units are those of the Engine's API."""

    auto_remove: Literal[False] = False  # InfraKit removes exited containers after storing their logs
    binds: tuple[Text, ...] = ()  # /path/of/the/host:/path/inside[:ro]
    blkio_device_read_bps: tuple[dict[str, Any], ...] = ()
    blkio_device_read_iops: tuple[dict[str, Any], ...] = msgspec.field(default=(), name="BlkioDeviceReadIOps")
    blkio_device_write_bps: tuple[dict[str, Any], ...] = ()
    blkio_device_write_iops: tuple[dict[str, Any], ...] = msgspec.field(default=(), name="BlkioDeviceWriteIOps")
    blkio_weight: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    blkio_weight_device: tuple[dict[str, Any], ...] = ()
    cap_add: tuple[Text, ...] = ()  # such as NET_ADMIN, or ALL
    cap_drop: tuple[Text, ...] = ()
    cgroup: str = ""
    cgroup_parent: str = ""
    cgroupns_mode: Literal["", "private", "host"] = ""
    cpu_count: Size = 0
    cpu_percent: Size = 0
    cpu_period: Size = 0
    cpu_quota: int = 0
    cpu_realtime_period: Size = 0
    cpu_realtime_runtime: Size = 0
    cpu_shares: Size = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    device_cgroup_rules: tuple[Text, ...] = ()
    device_requests: tuple[dict[str, Any], ...] = ()
    devices: tuple[Device, ...] = ()
    dns: tuple[Text, ...] = ()
    dns_options: tuple[Text, ...] = ()
    dns_search: tuple[Text, ...] = ()
    extra_hosts: tuple[Text, ...] = ()  # name:address
    group_add: tuple[Text, ...] = ()
    init: bool | None = None  # run a small init process as PID 1
    ipc_mode: str = ""
    isolation: str = ""
    links: tuple[Text, ...] = ()
    log_config: LogConfig | None = None
    masked_paths: tuple[str, ...] | None = None
    memory: Size = 0  # bytes
    memory_reservation: Size = 0
    memory_swap: int = 0
    memory_swappiness: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    mounts: tuple[Mount, ...] = ()
    nano_cpus: Size = 0  # 1000000000 is one CPU
    oom_kill_disable: bool | None = None
    oom_score_adj: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    pid_mode: str = ""
    pids_limit: int | None = None
    port_bindings: dict[str, tuple[PortBinding, ...]] = msgspec.field(default_factory=dict)  # "80/tcp": [{HostPort}]
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_paths: tuple[str, ...] | None = None
    readonly_rootfs: bool = False
    restart_policy: RestartPolicy = RestartPolicy()
    runtime: str = ""
    security_opt: tuple[Text, ...] = ()  # such as seccomp=unconfined
    shm_size: Size = 0
    storage_opt: dict[str, str] = msgspec.field(default_factory=dict)
    sysctls: dict[str, str] = msgspec.field(default_factory=dict)
    tmpfs: dict[str, str] = msgspec.field(default_factory=dict)  # path -> options
    ulimits: tuple[Ulimit, ...] = ()
    userns_mode: str = ""
    uts_mode: str = msgspec.field(default="", name="UTSMode")
    volume_driver: str = ""
    volumes_from: tuple[Text, ...] = ()


class Healthcheck(Api, frozen=True, kw_only=True):
    """The Engine's health check: a container that it reports as unhealthy is `impaired`."""

    test: tuple[Text, ...] = ()  # such as [CMD-SHELL, wget -q -O /dev/null localhost]
    interval: Size = 0  # nanoseconds, as are the other durations here
    timeout: Size = 0
    start_period: Size = 0
    start_interval: Size = 0
    retries: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0


class Create(Strict, frozen=True, kw_only=True):
    """How to create the network if it does not exist."""

    driver: Text = "bridge"
    subnet: str = ""  # such as 10.77.0.0/24; required if logical IDs are addresses
    gateway: str = ""  # empty: the Engine chooses
    ip_range: str = msgspec.field(default="", name="IPRange")  # for instances without a fixed address
    internal: bool = False  # without access to external networks
    options: dict[str, str] = msgspec.field(default_factory=dict)  # of the driver


class Network(Strict, frozen=True, kw_only=True):
    """The network of the instances. Their logical IDs are their addresses or their host names there."""

    name: Name
    create: Create | None = None  # omitted: the network must exist
    aliases: tuple[Text, ...] = ()  # additional names of every instance


class VolumeMount(Strict, frozen=True, kw_only=True):
    """Where one attachment is mounted, and how its volume is created if it does not exist."""

    target: Text  # the path inside the container
    driver: str = ""  # empty: the Engine's default
    driver_opts: dict[str, str] = msgspec.field(default_factory=dict)
    create: bool = True  # false: the volume must exist


class Properties(Strict, frozen=True, kw_only=True):
    """All properties of a container. Only the image is required."""

    image: Text  # must be present in the Engine: it is not pulled
    entrypoint: tuple[str, ...] = ()  # omitted: that of the image
    cmd: tuple[str, ...] = ()  # omitted: that of the image
    env: tuple[Text, ...] = ()  # NAME=value
    user: str = ""
    working_dir: str = ""
    tty: bool = False
    stop_signal: str = ""
    stop_timeout: Annotated[int, msgspec.Meta(ge=0, le=GRACE_S_MAX)] = 10  # seconds from the stop signal to KILL
    exposed_ports: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)  # "80/tcp": {}
    healthcheck: Healthcheck | None = None
    host_config: HostConfig = HostConfig()
    network: Network | None = None  # omitted: the Engine's default, which has no fixed addresses
    volumes: tuple[VolumeMount, ...] = ()  # mount points of the attachments of type volume, in their order


def decode(raw: msgspec.Raw) -> Properties:
    """Decode and check properties. Raises `InvalidSpec` with every problem."""
    declared = validate.properties(raw, Properties)
    found = [*_environment(declared.env), *_targets(declared), *_ports(declared), *_network(declared.network)]
    if found:
        raise InvalidSpec(found)
    return declared


def _environment(env: tuple[str, ...]) -> Iterator[Problem]:
    for position, each in enumerate(env):
        name, equals, _ = each.partition("=")
        if not name or not equals or "\0" in each:
            yield Problem(path=f"Env[{position}]", message="expected NAME=value, without NUL")
        elif name.startswith(RESERVED):
            yield Problem(
                path=f"Env[{position}]", message=f"names that begin with {RESERVED} are reserved for InfraKit"
            )


def _targets(declared: Properties) -> Iterator[Problem]:
    """Check that every mount target is absolute and unique."""
    seen: dict[str, str] = {}
    host = declared.host_config
    given = [(f"Volumes[{i}].Target", each.target) for i, each in enumerate(declared.volumes)]
    given += [(f"HostConfig.Mounts[{i}].Target", each.target) for i, each in enumerate(host.mounts)]
    given += [(f"HostConfig.Tmpfs[{path!r}]", path) for path in host.tmpfs]
    for position, bind in enumerate(host.binds):
        path = f"HostConfig.Binds[{position}]"
        parts = bind.split(":")
        if len(parts) not in (2, 3):
            yield Problem(path=path, message=f"found {bind!r}, expected SOURCE:TARGET or SOURCE:TARGET:ro")
        else:
            given.append((path, parts[1]))
    for path, target in given:
        normal = posixpath.normpath(target)
        if not posixpath.isabs(target) or normal == "/":
            yield Problem(path=path, message=f"{target!r} is not an absolute path below /", hint="begin it with /")
        elif normal in seen:
            yield Problem(path=path, message=f"{target!r} is taken by {seen[normal]}", hint="choose another path")
        seen.setdefault(normal, path)


def _ports(declared: Properties) -> Iterator[Problem]:
    ports = [(f"ExposedPorts[{port!r}]", port) for port in declared.exposed_ports]
    ports += [(f"HostConfig.PortBindings[{port!r}]", port) for port in declared.host_config.port_bindings]
    for path, port in ports:
        number, _, protocol = port.partition("/")
        if not (re.fullmatch(r"[0-9]{1,5}", number) and 0 < int(number) < 65536) or protocol not in (
            *("tcp", "udp", "sctp"),
            "",
        ):
            yield Problem(path=path, message="expected a port such as 80/tcp")


def _network(network: Network | None) -> Iterator[Problem]:
    if network is None:
        return
    if network.name in ("none", "host", "bridge") and (network.create or network.aliases):
        message = f"{network.name!r} is a predefined network, which supports neither aliases nor fixed addresses"
        yield Problem(path="Network.Name", message=message, hint="choose another name")
    if network.create is not None:
        yield from _addresses(network.create)


def _addresses(create: Create) -> Iterator[Problem]:
    subnet, ranges = _parsed(create.subnet), _parsed(create.ip_range)
    if isinstance(subnet, str):
        yield Problem(path="Network.Create.Subnet", message=subnet, hint="such as 10.77.0.0/24")
    elif subnet is None and (create.gateway or create.ip_range):
        yield Problem(
            path="Network.Create.Subnet", message="required with Gateway or IPRange", hint="such as 10.77.0.0/24"
        )
    if isinstance(ranges, str):
        yield Problem(path="Network.Create.IPRange", message=ranges, hint="such as 10.77.0.128/25")
    elif ranges and subnet and not isinstance(subnet, str) and not _inside(ranges, subnet):
        yield Problem(path="Network.Create.IPRange", message=f"{ranges} is outside {subnet}")
    gateway = _parsed(create.gateway)
    if isinstance(gateway, str) or "/" in create.gateway:
        yield Problem(path="Network.Create.Gateway", message=f"{create.gateway!r} is not an address")
    elif gateway and subnet and not isinstance(subnet, str) and not _inside(gateway, subnet):
        yield Problem(path="Network.Create.Gateway", message=f"{create.gateway} is outside {subnet}")


def _parsed(text: str) -> Addresses | str | None:
    """Parse a network or an address. A string is the error; None means that the text is empty."""
    try:
        return ipaddress.ip_network(text) if text else None
    except ValueError as error:
        return str(error)


def _inside(part: Addresses, whole: Addresses) -> bool:
    return part.version == whole.version and part.network_address in whole and part.broadcast_address in whole
