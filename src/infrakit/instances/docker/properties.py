"""What an operator writes under `Instance.Properties` of a group whose instances are containers.

The names are those of the Docker Engine's API. The Engine ignores what it does not know, so that a misspelt limit would
be none: here every name is known, or an error.
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

RESERVED = "INFRAKIT_"  # names of the environment that are ours to set
GRACE_S_MAX = 90  # a destruction has to be answered within two minutes

Addresses = ipaddress.IPv4Network | ipaddress.IPv6Network
Text = Annotated[str, msgspec.Meta(min_length=1)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**60)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="a name of letters and digits")]


class Api(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the Engine's API: what is left out is left to the Engine."""


class Device(Api, frozen=True, kw_only=True, omit_defaults=False):
    """A device of the host."""

    path_on_host: Text  # such as /dev/kvm
    path_in_container: Text  # the same, as a rule
    cgroup_permissions: str = "rwm"  # read, write, make


class LogConfig(Api, frozen=True, kw_only=True):
    """Where the Engine puts what a container prints."""

    type: Text  # such as json-file, local or journald
    config: dict[str, str] = msgspec.field(default_factory=dict)  # such as max-size: 10m


class Ulimit(Api, frozen=True, kw_only=True):
    """A limit of the operating system."""

    name: Text  # such as nofile
    soft: int
    hard: int


class Mount(Api, frozen=True, kw_only=True):
    """A volume, a directory of the host, or a file system in memory."""

    type: Literal["bind", "volume", "tmpfs", "npipe", "cluster"]
    target: Text  # the path inside
    source: str = ""  # a path of the host, or the name of a volume that all instances share
    read_only: bool = False
    consistency: str = ""
    bind_options: dict[str, Any] | None = None
    volume_options: dict[str, Any] | None = None
    tmpfs_options: dict[str, Any] | None = None


class PortBinding(Api, frozen=True, kw_only=True):
    """A port of the host."""

    host_ip: str = msgspec.field(default="", name="HostIp")
    host_port: str = ""  # empty: any that is free


class RestartPolicy(Api, frozen=True, kw_only=True):
    """`no`: what dies is replaced by InfraKit."""

    name: Literal["no", ""] = "no"
    maximum_retry_count: int = 0


class HostConfig(Api, frozen=True, kw_only=True):
    """How the host runs it. Meanings and units are those of the Engine's API."""

    auto_remove: Literal[False] = False  # InfraKit removes what has ended, once its log is kept
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
    init: bool | None = None  # a small init process as the first
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
    """The Engine's own check: a container that it calls unhealthy is `impaired`."""

    test: tuple[Text, ...] = ()  # such as [CMD-SHELL, wget -q -O /dev/null localhost]
    interval: Size = 0  # nanoseconds, as all of these
    timeout: Size = 0
    start_period: Size = 0
    start_interval: Size = 0
    retries: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0


class Create(Strict, frozen=True, kw_only=True):
    """How the network is made when there is none of its name."""

    driver: Text = "bridge"
    subnet: str = ""  # such as 10.77.0.0/24; logical IDs that are addresses need one
    gateway: str = ""  # empty: the Engine's choice
    ip_range: str = msgspec.field(default="", name="IPRange")  # for instances without a fixed address
    internal: bool = False  # without a way out
    options: dict[str, str] = msgspec.field(default_factory=dict)  # of the driver


class Network(Strict, frozen=True, kw_only=True):
    """The network of the instances. Their logical IDs are their addresses there, or their names."""

    name: Name
    create: Create | None = None  # left out: it has to be there
    aliases: tuple[Text, ...] = ()  # further names of every instance


class VolumeMount(Strict, frozen=True, kw_only=True):
    """Where one attachment is mounted, and how its volume is made when there is none of its name."""

    target: Text  # the path inside
    driver: str = ""  # empty: the Engine's own
    driver_opts: dict[str, str] = msgspec.field(default_factory=dict)
    create: bool = True  # false: it has to be there


class Properties(Strict, frozen=True, kw_only=True):
    """The whole. Only the image is needed."""

    image: Text  # one that the Engine has: it is not pulled
    entrypoint: tuple[str, ...] = ()  # left out: the image's
    cmd: tuple[str, ...] = ()  # left out: the image's
    env: tuple[Text, ...] = ()  # NAME=value
    user: str = ""
    working_dir: str = ""
    tty: bool = False
    stop_signal: str = ""
    stop_timeout: Annotated[int, msgspec.Meta(ge=0, le=GRACE_S_MAX)] = 10  # seconds from the stop signal to KILL
    exposed_ports: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)  # "80/tcp": {}
    healthcheck: Healthcheck | None = None
    host_config: HostConfig = HostConfig()
    network: Network | None = None  # left out: the Engine's default, which knows no fixed addresses
    volumes: tuple[VolumeMount, ...] = ()  # of the attachments of type volume, in their order


def decode(raw: msgspec.Raw) -> Properties:
    """Raises `InvalidSpec` with every problem."""
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
            yield Problem(path=f"Env[{position}]", message=f"names that begin with {RESERVED} are set by InfraKit")


def _targets(declared: Properties) -> Iterator[Problem]:
    """Every path inside is absolute, and is there once."""
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
            yield Problem(path=path, message=f"{target!r} is no absolute path below /", hint="begin it with /")
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
        message = f"{network.name!r} is the Engine's own network, which has neither names nor a choice of addresses"
        yield Problem(path="Network.Name", message=message, hint="choose another name")
    if network.create is not None:
        yield from _addresses(network.create)


def _addresses(create: Create) -> Iterator[Problem]:
    subnet, ranges = _parsed(create.subnet), _parsed(create.ip_range)
    if isinstance(subnet, str):
        yield Problem(path="Network.Create.Subnet", message=subnet, hint="such as 10.77.0.0/24")
    elif subnet is None and (create.gateway or create.ip_range):
        yield Problem(path="Network.Create.Subnet", message="a Gateway or an IPRange needs one", hint="10.77.0.0/24")
    if isinstance(ranges, str):
        yield Problem(path="Network.Create.IPRange", message=ranges, hint="such as 10.77.0.128/25")
    elif ranges and subnet and not isinstance(subnet, str) and not _inside(ranges, subnet):
        yield Problem(path="Network.Create.IPRange", message=f"{ranges} is not inside of {subnet}")
    gateway = _parsed(create.gateway)
    if isinstance(gateway, str) or "/" in create.gateway:
        yield Problem(path="Network.Create.Gateway", message=f"{create.gateway!r} is no address")
    elif gateway and subnet and not isinstance(subnet, str) and not _inside(gateway, subnet):
        yield Problem(path="Network.Create.Gateway", message=f"{create.gateway} is not inside of {subnet}")


def _parsed(text: str) -> Addresses | str | None:
    """Or what is wrong with the text; None for none."""
    try:
        return ipaddress.ip_network(text) if text else None
    except ValueError as error:
        return str(error)


def _inside(part: Addresses, whole: Addresses) -> bool:
    return part.version == whole.version and part.network_address in whole and part.broadcast_address in whole
