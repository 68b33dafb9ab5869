"""Machines that run only the boot script of the flavors, each with its own address and volume.

They run in the hub of `tests/integration/swarm/engines.py`. A machine that is recreated at an address gets the volume
of the previous machine, unless that was lost; everything else is new.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.clients.swarm import Swarm
from infrakit.clients.swarm_values import Node as Listed
from infrakit.flavors.swarm import SwarmManager, SwarmWorker, link
from infrakit.spi import errors
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import (
    BOOTSTRAP,
    TAG_GROUP,
    TAG_HASH,
    TAG_LOGICAL_ID,
    TAG_TOKEN,
    Allocation,
    Description,
    GroupID,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
    State,
)
from tests.integration.docker.engines import cgroups
from tests.integration.swarm import engines
from tests.integration.swarm.engines import Engines, Node, _child

TIMEOUT_S = 300.0
REPORT_TIMEOUT_S = 30.0
OUTPUT_MAX = 4000  # characters of one machine in a report
ENGINE = ["dockerd", "--bridge=none", "--iptables=false", "--userland-proxy=false", "--log-level=error"]
SOCKET = Path("/run/docker.sock")
BUSYBOX_PROGRAMS = ("sh", "awk", "cat", "date", "grep", "mkdir", "mv", "od", "rm", "sed", "sleep", "sync", "timeout")
OTHER_PROGRAMS = (
    "dockerd",
    "docker",
    "containerd",
    "containerd-shim-runc-v2",
    "runc",
    "flock",
    "iptables",
    "ip",
    "modprobe",
)
INSIDE = "unix:///var/run/docker.sock"


def missing_requirement() -> str:
    """Why this machine cannot run these tests; empty if it can."""
    wanted = {"busybox": "busybox-static", "flock": "util-linux"}
    packages = [package for program, package in wanted.items() if shutil.which(program) is None]
    return engines.missing_requirement() or (f"install them: apt-get install {' '.join(packages)}" if packages else "")


async def until(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Poll until the condition is true, or fail after the timeout; an InfraKitError counts as not yet."""
    last: object = None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    if await condition():
                        return
                except errors.InfraKitError as error:
                    last = error
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {TIMEOUT_S:.0f} s: {what}; {last}") from None


class Machine(Node):
    """One address and its volume; machines are booted and killed there."""

    description: Description | None = None
    sparse = False

    def boot(self, script: str, *, volume: bool = True) -> None:
        """Run the script as the first process of a new machine; `sparse`: with busybox as its shell and tools."""
        here = self._inside
        (self.place / "data").mkdir(parents=True, exist_ok=True)
        (self.place / "boot.sh").write_text(script)
        path = self._sparse() if self.sparse else os.environ["PATH"]
        shell = f"{path}/sh" if self.sparse else "/bin/sh"
        attach = f"mount --bind {here}/data /var/lib/docker && " if volume else ""
        inner = (
            f"hostname {self.name} && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && "
            f"mkdir -p /var/lib/docker /run/lock && {attach} exec </dev/null >>{here}/log 2>&1 && "
            f"exec env -i PATH={path} INFRAKIT_VOLUME=/var/lib/docker {shell} {here}/boot.sh"
        )
        enter = ["nsenter", "-t", str(self._hub), "-m", "-p", "nsenter", f"--net=/proc/{self._network_inside()}/ns/net"]
        isolation = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts"]
        nothing = subprocess.DEVNULL
        self._process = subprocess.Popen([*enter, *isolation, "sh", "-c", inner], stdin=nothing, stderr=nothing)
        self._pid = _child(_child(self._process.pid))
        self.socket = Path(f"/proc/{self._pid}/root{SOCKET}")
        self.host = f"unix://{self.socket}"

    def _sparse(self) -> Path:
        """A directory with links to busybox, and to the few other programs that the script needs."""
        path = self.place / "sparse"
        path.mkdir(exist_ok=True)
        for name in BUSYBOX_PROGRAMS:
            (path / name).symlink_to("/bin/busybox")
        for name in OTHER_PROGRAMS:
            (path / name).symlink_to(shutil.which(name) or "/bin/false")
        return self._inside / "sparse"

    @property
    def place(self) -> Path:
        return Path(f"/proc/{self._hub}/root{self._inside}")

    @property
    def output(self) -> str:
        path = self.place / "log"
        return path.read_text() if path.exists() else ""

    @property
    def messages(self) -> str:
        """The messages of the boot script itself."""
        return "\n".join(line for line in self.output.splitlines() if line.startswith("infrakit:"))

    async def wait_for_message(self, text: str, *, times: int = 1) -> None:
        async def printed() -> bool:
            return self.messages.count(text) >= times

        try:
            await until(printed, text)
        except AssertionError as late:
            raise AssertionError(f"{late}; output of {self.address}:\n{self.output[-3000:]}") from None

    async def has_the_log(self) -> bool:
        """Whether its own Engine answers for the Swarm."""
        swarm = Swarm(self.host)
        try:
            return bool(await swarm.nodes())
        finally:
            await swarm.close()

    def lose_volume(self) -> Path:
        """Move the volume away, so that the next boot gets an empty one; return its new path."""
        old = self.place / f"lost-{id(object())}"
        (self.place / "data").rename(old)
        return old

    def clear_log(self) -> None:
        (self.place / "log").write_text("")


class Group:
    """The part of a group controller that uses the flavor: it creates, checks, drains and releases instances."""

    _tokens = itertools.count(1)

    def __init__(self, cluster: "Cluster", name: str, *, manager: bool, **properties: Any) -> None:
        self.cluster = cluster
        self.name = name
        self.flavor = SwarmManager() if manager else SwarmWorker()
        self.machines: list[Machine] = []  # those that exist
        self.declared: list[Machine] = []
        engine = [*ENGINE, f"--cgroup-parent=/{cluster.cgroup}"]
        self._properties: dict[str, Any] = {"Engine": engine, "RemoveAfter": "1s"} | properties
        self._manager = manager

    def declare(self, **properties: Any) -> None:
        """Change the properties for the calls that follow."""
        self._properties |= properties

    @property
    def properties(self) -> msgspec.Raw:
        """The properties, with the address of the leader's Engine."""
        docker = {"Docker": {"Host": self.cluster.host}} if self.cluster.host else {}
        return msgspec.Raw(msgspec.json.encode(self._properties | docker))

    @property
    def allocation(self) -> Allocation:
        if not self._manager:
            return Allocation(size=len(self.declared))
        return Allocation(logical_ids=tuple(LogicalID(each.address) for each in self.declared))

    @property
    def instances(self) -> list[Description]:
        return [each.description for each in self.machines if each.description is not None]

    async def prepare(self, machine: Machine, *, first: bool = False) -> InstanceSpec:
        number = next(self._tokens)
        slot = {TAG_LOGICAL_ID: machine.address} if self._manager else {}
        tags = {TAG_GROUP: self.name, TAG_TOKEN: f"t/{number}", TAG_HASH: BOOTSTRAP if first else "h", **slot}
        name = LogicalID(machine.address)
        return await self.flavor.prepare(
            properties=self.properties,
            spec=InstanceSpec(tags=tags, logical_id=name if self._manager else None),
            allocation=Allocation(logical_ids=(name,)) if first else self.allocation,
            index=Index(group=GroupID(self.name), sequence=number),
        )

    def start(self, machine: Machine, spec: InstanceSpec, *, volume: bool = True) -> None:
        script = spec.init.replace(self.cluster.host, INSIDE) if self.cluster.host else spec.init
        machine.boot(script, volume=volume)
        machine.description = Description(
            id=InstanceID(f"i-{link.link(spec)}"),
            logical_id=spec.logical_id,
            tags=spec.tags,
            state=State.RUNNING,
        )
        self.machines.append(machine)

    async def create(self, machine: Machine, *, first: bool = False) -> None:
        """Prepare and start one instance."""
        self.start(machine, await self.prepare(machine, first=first), volume=self._manager)

    def destroy(self, machine: Machine) -> None:
        """Kill its machine at once; the provider confirms its termination."""
        machine.kill()
        self.remove(machine)

    def remove(self, machine: Machine) -> None:
        self.machines.remove(machine)
        machine.description = None

    async def release(self, machine: Machine) -> None:
        """Call `release` of the flavor, like a controller before a destruction, until the Engine answers."""
        description, flavor = machine.description, self.flavor
        assert description is not None
        assert isinstance(flavor, SwarmManager)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with contextlib.suppress(errors.Unreachable):
                    return await flavor.release(
                        properties=self.properties, instance=description, allocation=self.allocation
                    )
                await asyncio.sleep(0.1)

    async def drain(self, machine: Machine) -> None:
        """Call `drain` of the flavor, like a controller before a destruction."""
        assert machine.description is not None
        await self.flavor.drain(properties=self.properties, instance=machine.description)

    async def health(self, machine: Machine) -> HealthReport:
        assert machine.description is not None
        return await self.flavor.healthy(properties=self.properties, instance=machine.description)

    async def is_healthy(self, machine: Machine) -> bool:
        return (await self.health(machine)).health == 1

    async def is_settled(self, machine: Machine) -> bool:
        """Whether it is healthy, and a manager has received the log.

        The leader calls a manager reachable up to a second earlier. One that is killed within that second never returns
        with its data, because it does not know the other managers.
        """
        return await self.is_healthy(machine) and (not self._manager or await machine.has_the_log())

    async def membership(self) -> Sequence[MembershipChange]:
        return await self.flavor.membership(
            properties=self.properties, instances=self.instances, allocation=self.allocation
        )

    async def change(self, change: MembershipChange) -> None:
        await self.flavor.change_membership(
            properties=self.properties, change=change, instances=self.instances, allocation=self.allocation
        )

    async def make_due_changes(self) -> list[str]:
        """Make membership changes, one after the other, until none is due; return their IDs."""
        created = []
        while (due := next((each for each in await self.membership() if each.due), None)) is not None:
            try:
                await self.change(due)
            except (errors.Refused, errors.Conflict):
                continue
            created.append(due.id)
        return created

    async def converge(self, *, what: str = "all are healthy") -> list[str]:
        """Make membership changes until every machine is healthy and none is pending; return their IDs."""
        created: list[str] = []

        async def converged() -> bool:
            created.extend(await self.make_due_changes())
            settled = [await self.is_settled(each) for each in self.machines]
            pending = [each for each in await self.membership() if not each.id.startswith("advice/")]
            return all(settled) and len(self.machines) == len(self.declared) and not pending

        await until(converged, what)
        return created


class Cluster:
    """Managers and workers on one hub; `lead` selects the machine whose Engine the flavors use, as the leader."""

    def __init__(self, place: Engines) -> None:
        self._engines = place
        self.cgroup = f"infrakit-test-{place.pid}"
        self.host = ""
        self.managers = Group(self, "managers", manager=True)
        self.workers = Group(self, "workers", manager=False)
        self._clients: list[Swarm] = []
        self._machines: list[Machine] = []

    def machine(self) -> Machine:
        """A new address, at which nothing runs."""
        machine = Machine(self._engines.pid, len(self._engines.nodes) + 1, ())
        self._engines.nodes.append(machine)
        self._machines.append(machine)
        return machine

    async def report(self) -> str:
        """The node list, and the last output of each machine, for a test that has failed."""
        try:
            async with asyncio.timeout(REPORT_TIMEOUT_S):
                nodes = "\n".join(str(each) for each in (await self.nodes()).values())
        except (TimeoutError, errors.InfraKitError) as error:
            nodes = f"it cannot be read: {error!r}"
        outputs = [f"-- {each.address}:\n{each.output[-OUTPUT_MAX:]}" for each in self._machines]
        return "\n".join([f"-- node list of {self.host}:", nodes, *outputs])

    def lead(self, machine: Machine) -> None:
        self.host = machine.host

    def client(self) -> Swarm:
        self._clients.append(Swarm(self.host))
        return self._clients[-1]

    async def nodes(self) -> dict[str, Listed]:
        """The node list, by ID."""
        swarm = Swarm(self.host)
        try:
            return {each.id: each for each in await swarm.nodes()}
        finally:
            await swarm.close()

    async def bootstrap(self, count: int) -> list[Machine]:
        """Create managers of a new Swarm: the first bootstraps it, the others join."""
        group = self.managers
        machines = [self.machine() for _ in range(count)]
        group.declared = list(machines)
        await group.create(machines[0], first=True)
        await machines[0].wait_for_message("the Swarm lists this machine")
        self.lead(machines[0])
        for each in machines[1:]:
            await group.create(each)
        await group.converge()
        return machines

    async def close(self) -> None:
        for group in (self.managers, self.workers):
            await group.flavor.close()
        for client in self._clients:
            await client.close()

    def sweep(self) -> None:
        """Remove the cgroups of containers that have terminated with the hub."""
        for controller in cgroups(self.cgroup):
            for each in (*controller.glob("*/"), controller):
                with contextlib.suppress(OSError):
                    each.rmdir()


@contextlib.contextmanager
def hub() -> Iterator[Engines]:
    if why := missing_requirement():
        pytest.skip(why)
    created = Engines()
    try:
        yield created
    finally:
        created.close()


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """A cluster without machines; at exit, everything is killed."""
    with contextlib.ExitStack() as last, hub() as place:
        created = Cluster(place)
        last.callback(created.sweep)
        try:
            yield created
        finally:
            await created.close()
