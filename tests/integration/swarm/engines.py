"""Nodes of a real Swarm on one machine, without containers: a `dockerd` each, in namespaces that end with the tests.

They run in one *hub*: a process with its own PID, mount and network namespaces, which is killed when the test process
exits, for whatever reason. Its tmpfs holds the data and sockets of all nodes, and its bridge is their network. A node
is an Engine with its own network, host name and processes, like a machine: after a restart it has the same address
and the same data. So nothing is left behind, and nothing collides with another test.

Nodes run no containers: tasks of services stay pending.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

DEADLINE_S = 120.0
INTERVAL_S = 0.05
PORT = 2377
NODES_MAX = 16
DATA = Path("/mnt")  # in the hub
_ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")


def missing_requirement() -> str:
    """Why this machine cannot run these tests; empty if it can."""
    if os.geteuid() != 0:
        return "Docker Engines are started by root"
    wanted = {
        "dockerd": "docker.io",
        "docker": "docker.io or docker-cli",
        "ip": "iproute2",
        "nsenter": "util-linux",
    }
    packages = sorted({package for program, package in wanted.items() if shutil.which(program) is None})
    return f"install them: {', '.join(packages)}" if packages else ""


needs_swarm = pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement())


@contextlib.contextmanager
def running(
    count: int, *, joined: bool = True, labels: Sequence[str] = (), disk: Path | None = None
) -> Iterator["Engines"]:
    """Run that many nodes; `joined`: as managers of one Swarm; `disk`: the directory of the data, if not in memory."""
    engines = Engines(disk)
    try:
        for _ in range(count):
            engines.add(labels=labels)
        if joined and count:
            engines.join_all()
        yield engines
    finally:
        engines.close()


class Node:
    """One node, running or stopped. Its data survives restarts."""

    def __init__(self, hub: int, number: int, labels: Sequence[str]) -> None:
        self.name = f"n{number}"
        self.address = f"10.77.0.{number}"
        self.labels = list(labels)  # of its Engine, from the next start on
        self._hub = hub
        self._inside = DATA / self.name
        self.socket = Path(f"/proc/{hub}/root{self._inside}/sock")  # as seen from the test process
        self.host = f"unix://{self.socket}"
        self._link = f"v{number}"
        self._network = self._wire(number)
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0  # of dockerd

    def _wire(self, number: int) -> int:
        """Create its network namespace, with a cable to the bridge; return the PID of the process that holds it."""
        sleeping = subprocess.Popen(
            ["nsenter", "-t", str(self._hub), "-n", "-p", "-m", "unshare", "--net", "sh", "-c", "echo; exec sleep inf"],
            stdout=subprocess.PIPE,
        )
        assert sleeping.stdout is not None
        with sleeping.stdout:
            sleeping.stdout.readline()
        pid = _child(sleeping.pid)
        run_in(self._hub, "ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", f"{pid}")
        run_in(self._hub, "ip", "link", "set", self._link, "master", "hub", "up")
        run_in(pid, "ip", "link", "set", "lo", "up")
        run_in(pid, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        run_in(pid, "ip", "link", "set", "eth0", "address", _hardware(number), "up")
        for other in range(
            1, NODES_MAX + 1
        ):  # permanent: the kernel's neighbour table is shared by all networks, and may be full
            known = (f"10.77.0.{other}", "lladdr", _hardware(other), "dev", "eth0", "nud", "permanent")
            run_in(pid, "ip", "neighbour", "add", *known)
        self._sleeping = sleeping
        return pid

    # -- life cycle ------------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        return Path(f"/proc/{self._hub}/root{self._inside}/log").read_text()

    def start(self) -> None:
        """Start the Engine, and wait until it answers; it resumes from its data."""
        here = self._inside
        script = (
            f"mkdir -p {here}/data && hostname {self.name} && mount -t tmpfs tmpfs /run && "
            f"rm -f {here}/sock && echo {{}} >{here}/config && exec >>{here}/log 2>&1 && exec dockerd "
            f"--data-root {here}/data --host unix://{here}/sock --bridge none --iptables=false --userland-proxy=false "
            f"--config-file {here}/config " + " ".join(f"--label {each}" for each in self.labels)
        )
        enter = ["nsenter", "-t", str(self._hub), "-m", "-p", "nsenter", f"--net=/proc/{self._network_inside()}/ns/net"]
        command, nothing = [*enter, *_ALONE, "--uts", "sh", "-c", script], subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=nothing, stderr=nothing)
        end = time.monotonic() + DEADLINE_S
        while self._ask("version").returncode:
            assert self._process.poll() is None, self._log_tail()
            assert time.monotonic() < end, self._log_tail()
            time.sleep(INTERVAL_S)
        self._pid = _child(_child(self._process.pid))

    def _network_inside(self) -> int:
        """The PID of the process that holds its network, in the PID namespace of the hub."""
        status = Path(f"/proc/{self._network}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])

    def _log_tail(self) -> str:
        return self.log[-2000:] if self.socket.with_name("log").exists() else "it has no log"

    def kill(self) -> None:
        """Kill it, like a power failure."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it, like a shutdown: it may transfer its leadership."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            end = os.pidfd_open(self._pid)
            os.kill(self._pid, number)
            os.kill(self._pid, signal.SIGCONT)
            select.select([end], [], [], DEADLINE_S)
            os.close(end)
        self._process.wait(DEADLINE_S)
        self._process = None

    def reap(self) -> None:
        """Reap the processes, which were killed with the hub."""
        self._sleeping.wait()
        if self._process is not None:
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def pause(self) -> None:
        """Suspend it, with all its connections."""
        os.kill(self._pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self._pid}/task")
        end = time.monotonic() + DEADLINE_S
        while any(_state(each) not in "Tt" for each in tasks.iterdir()):  # a thread in the kernel stops with a delay
            assert time.monotonic() < end, "it is not suspended"
            time.sleep(0.01)

    def resume(self) -> None:
        """Resume it after `pause`."""
        os.kill(self._pid, signal.SIGCONT)

    def cut(self) -> None:
        """Cut its network from all other nodes."""
        run_in(self._hub, "ip", "link", "set", self._link, "down")

    def reconnect(self) -> None:
        """Restore its network after `cut`."""
        run_in(self._hub, "ip", "link", "set", self._link, "up")

    # -- commands --------------------------------------------------------------------------------------------------

    def docker(self, *words: str, ok: bool = True) -> str:
        """The output of Docker's own client."""
        done = self._ask(*words)
        assert not ok or done.returncode == 0, done.stderr
        return done.stdout.strip() or done.stderr.strip()

    def _ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = ["docker", "--host", self.host, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def inside(self, *words: str) -> list[str]:
        """A command line that runs the command on the node itself: in its network, with its files and processes."""
        return ["nsenter", "-t", str(self._pid), "-m", "-n", "-u", "-p", *words]

    # -- the Swarm -------------------------------------------------------------------------------------------------

    def init(self) -> None:
        """Create a Swarm."""
        self.docker("swarm", "init", "--advertise-addr", self.address, "--listen-addr", f"{self.address}:{PORT}")

    def join(self, manager: "Node", *, role: str = "manager") -> None:
        """Join the Swarm of that manager, as a manager or worker; a manager has received the log when this returns."""
        token = manager.docker("swarm", "join-token", "-q", role)
        own = ("--advertise-addr", self.address, "--listen-addr", f"{self.address}:{PORT}")
        output = self.docker("swarm", "join", *own, "--token", token, f"{manager.address}:{PORT}", ok=False)
        end = time.monotonic() + DEADLINE_S  # Docker's client times out after 20 s, and the attempt continues
        while self.docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "active":
            assert time.monotonic() < end, output
            time.sleep(INTERVAL_S)
        while role == "manager" and self._ask("node", "ls").returncode:
            assert time.monotonic() < end, self._log_tail()
            time.sleep(INTERVAL_S)

    @property
    def id(self) -> str:
        """Its ID in the node list; empty if it is in no Swarm."""
        return self.docker("info", "--format", "{{.Swarm.NodeID}}")

    def leads(self) -> bool:
        """Whether it reports itself as the leader."""
        return self.docker("node", "inspect", "self", "--format", "{{.ManagerStatus.Leader}}", ok=False) == "true"


class Engines:
    """The nodes, and the hub that they run in."""

    def __init__(self, disk: Path | None = None) -> None:
        self.nodes: list[Node] = []
        mount = f"mount --bind {disk} {DATA}" if disk else f"mount -t tmpfs tmpfs {DATA}"
        script = f"{mount} && ip link set lo up && ip link add hub type bridge && "
        script += "ip link set hub up && echo && exec sleep inf"
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *_ALONE, "--net", "sh", "-c", script], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        with self._process.stdout:
            assert self._process.stdout.readline(), "the namespaces of the nodes could not be created"
        self.pid = _child(self._process.pid)

    def add(self, *, labels: Sequence[str] = ()) -> Node:
        """Start another node, which is in no Swarm."""
        assert len(self.nodes) < NODES_MAX
        node = Node(self.pid, len(self.nodes) + 1, labels)
        self.nodes.append(node)
        node.start()
        return node

    def join_all(self) -> None:
        """Let the first node create a Swarm, and the others join it as managers."""
        self.nodes[0].init()
        for node in self.nodes[1:]:
            node.join(self.nodes[0])

    def leader(self) -> Node:
        """Wait for a node that reports itself as the leader; only valid while at most one node can be the leader."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            for node in self.nodes:
                if node.is_running and node.leads():
                    return node
            time.sleep(INTERVAL_S)
        raise AssertionError("the Swarm has no leader")

    def close(self) -> None:
        """Kill everything at once."""
        self._process.kill()
        self._process.wait()
        for node in self.nodes:
            node.reap()


def _state(task: Path) -> str:
    """The state of one thread, in the letters of proc(5); a thread that has just exited counts as stopped."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "T"


def _hardware(number: int) -> str:
    return f"02:00:0a:4d:00:{number:02x}"


def run_in(pid: int, *words: str) -> None:
    """Run a command in the network namespace of that process."""
    subprocess.run(["nsenter", "-t", str(pid), "-n", *words], check=True, timeout=DEADLINE_S, capture_output=True)


def _child(pid: int) -> int:
    """The only child of a process that has one."""
    end = time.monotonic() + DEADLINE_S
    while not (children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        assert time.monotonic() < end, "it has started no process"
        time.sleep(INTERVAL_S / 10)
    return int(children[0])
