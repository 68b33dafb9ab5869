"""The cluster of this example, for scripts: its provider, its machines, and the state that etcd and InfraKit report."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from timeline import TIMEOUT_S, CheckFailed, wait_for

DECLARATION = Path(__file__).parent / "infrakit.yaml"
MACHINES = ("127.0.20.1", "127.0.20.2", "127.0.20.3")
PROVIDER = "127.0.20.254:24864"
STORE = "etcd://" + ",".join(f"{machine}:12379" for machine in MACHINES) + "/infrakit"

Facts = dict[str, Any]


def etcd(machine: str, path: str, request: Mapping[str, object], timeout_s: float = 1.0) -> Facts | None:
    """Call the JSON gateway of an etcd member and return the response; None if there is none."""
    body = json.dumps(request).encode()
    call = urllib.request.Request(f"http://{machine}:12379/v3/{path}", data=body, method="POST")
    try:
        with urllib.request.urlopen(call, timeout=timeout_s) as answer:
            facts: Facts = json.loads(answer.read())
            return facts
    except (OSError, ValueError, urllib.error.HTTPError):
        return None


def text(value: str) -> str:
    """Encode text as base64, which etcd's JSON uses for bytes."""
    return base64.b64encode(value.encode()).decode()


class Cluster:
    """The cluster and its provider, below one directory with a short path: a socket's path has at most 107 bytes."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "provider"
        bin_directory = Path(sys.executable).parent
        path = (
            f"{bin_directory}:{os.environ.get('PATH', '')}"
            if (bin_directory / "infrakit").exists()
            else os.environ["PATH"]
        )
        for program in ("infrakit", "etcd", "etcdctl"):
            if shutil.which(program, path=path) is None:
                raise CheckFailed(
                    f"{program} is not installed: python -m pip install . in a clone; "
                    "apt-get install etcd-server etcd-client"
                )
        self.program = str(shutil.which("infrakit", path=path))
        self.environment = {**os.environ, "PATH": path, "INFRAKIT_HOME": str(self.home), "NO_COLOR": "1"}
        self.log = directory / "provider.log"
        self._provider: subprocess.Popen[bytes] | None = None

    # -- lifecycle -------------------------------------------------------------------------------------------------

    def start_provider(self) -> None:
        """Start the provider of machines, which plays the part of a cloud."""
        command = [self.program, "plugin", "start", "local", "--listen", PROVIDER]
        with self.log.open("wb") as log:
            self._provider = subprocess.Popen(
                [str(shutil.which(command[0], path=self.environment["PATH"])), *command[1:]],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for("the provider to listen", (self.home / "plugins" / "local").exists)

    def bootstrap(self, *options: str) -> str:
        """Run the one command that creates the cluster."""
        return self.run("bootstrap", str(DECLARATION), "--store", STORE, *options)

    def run(self, *words: str, at: str = "", timeout_s: float = TIMEOUT_S) -> str:
        """Run an `infrakit` command, which must succeed; `at` is the machine whose replica receives it."""
        environment = self.environment | ({"INFRAKIT_HOST": f"http://{at}:24864"} if at else {})
        done = subprocess.run(
            [self.program, *words], env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise CheckFailed(f"infrakit {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def stop(self) -> None:
        """Stop every process of this example, after success and after failure."""
        if self._provider is not None:
            self._provider.kill()
            self._provider.wait()
        for machine in MACHINES:
            for pid in self.processes(machine):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def recent_logs(self) -> str:
        """Return the last lines that the machines and the provider have logged."""
        logs = [self.log, *sorted((self.home / "local").rglob("log*"))]
        return "\n".join(
            f"--- {log.relative_to(self.home.parent)}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            for log in logs
            if log.is_file()
        )

    # -- machines --------------------------------------------------------------------------------------------------

    def processes(self, machine: str) -> list[int]:
        """Return the processes of a machine, found by the environment variables that the provider sets."""
        mark = f"INFRAKIT_LOGICAL_ID={machine}".encode()
        ours = f"{self.home}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    environment = (entry / "environ").read_bytes().split(b"\0")
                    if mark in environment and any(ours in each for each in environment if b"DIRECTORY" in each):
                        found.append(int(entry.name))
        return found

    def kill(self, *machines: str) -> None:
        """Simulate a power failure: no process on these machines runs another instruction."""
        pids = [pid for machine in machines for pid in self.processes(machine)]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that no process sees another exit
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def lose_volume(self, machine: str) -> None:
        """Remove the volume of a machine, which does not notice while it runs."""
        volume = self.home / "local" / "volumes" / f"etcd-{machine}"
        volume.rename(self.home / f"lost-{machine}")

    # -- state -----------------------------------------------------------------------------------------------------

    def leader(self) -> str:
        """Return the machine of etcd's leader, as a quorum of members reports it; empty if there is none."""
        votes: dict[str, int] = {}
        names = self.members()
        for machine in MACHINES:
            status = etcd(machine, "maintenance/status", {})
            if status is not None and status.get("leader", "0") != "0":
                votes[status["leader"]] = votes.get(status["leader"], 0) + 1
        return next((name for name, member in names.items() if votes.get(member, 0) > 1), "")

    def members(self) -> dict[str, str]:
        """Return the members of etcd and their IDs."""
        for machine in MACHINES:
            listed = etcd(machine, "cluster/member/list", {})
            if listed is not None:
                return {each.get("name", ""): each["ID"] for each in listed["members"]}
        return {}

    def replicas(self) -> Facts:
        """Return the replicas of InfraKit, as the first one that responds reports them."""
        for machine in MACHINES:
            with contextlib.suppress(CheckFailed, subprocess.TimeoutExpired):
                facts: Facts = json.loads(self.run("leader", "-o", "json", at=machine, timeout_s=10))
                return facts
        return {}

    def status(self) -> Facts:
        """Return the status of the groups, from any replica that has one."""
        for machine in MACHINES:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired, ValueError):
                environment = self.environment | {"INFRAKIT_HOST": f"http://{machine}:24864"}
                answer = subprocess.run(
                    [self.program, "status", "-o", "json"],
                    env=environment,
                    capture_output=True,
                    timeout=10,
                    check=False,
                )
                facts: Facts = json.loads(answer.stdout)
                if facts["Groups"]:
                    return facts
        return {}

    def converged(self) -> bool:
        groups = self.status().get("Groups", [])
        return bool(groups) and all(group["Converged"] for group in groups)


class Followers:
    """Print the events of all replicas, each of which has its own journal; reconnects to a replica that restarts."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._follow, args=(machine,)) for machine in MACHINES]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for process in list(self._processes.values()):
            process.kill()
        for thread in self._threads:
            thread.join()

    def _follow(self, machine: str) -> None:
        """Resume after the last event received, so that no event is missed or printed twice."""
        command = [self._cluster.program, "events", "--follow", "-o", "json"]
        environment = self._cluster.environment | {"INFRAKIT_HOST": f"http://{machine}:24864"}
        seen: list[str] = []
        while not self._done.is_set():
            process = subprocess.Popen(
                [*command, *seen],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._processes[machine] = process
            if self._done.is_set():
                process.kill()
            with process:
                for line in process.stdout or ():
                    event = json.loads(line)
                    seen = ["--since", str(event["Seq"])]
                    subject = "/".join(filter(None, (event.get("Group"), event.get("Slot"))))
                    what = f"{subject}: {event['Message']}" if subject else event["Message"]
                    print(f"{event['Timestamp'][11:19]}  {machine}  {event['Type']:<11}  {what}", flush=True)
            self._done.wait(1.0)


class Writer:
    """Writes one key after another to etcd, and records which writes were acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self._longest_s = 0.0
        self._last = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def longest_s(self) -> float:
        """Return the longest time without an acknowledged write since the last call, in seconds."""
        longest_s = max(self._longest_s, time.monotonic() - self._last)
        self._longest_s = 0.0
        return longest_s

    def lost(self) -> list[str]:
        """Return the keys that were acknowledged and are missing."""
        acknowledged = list(self.acknowledged)  # copied before the read, which need not contain later writes
        request = {"key": text("w/"), "range_end": text("w0"), "keys_only": True}
        read = wait_for(
            "a read from etcd",
            lambda: next(filter(None, (etcd(m, "kv/range", request, 5.0) for m in MACHINES)), None),
        )
        there = {base64.b64decode(each["key"]).decode() for each in read.get("kvs", [])}
        return [key for key in acknowledged if key not in there]

    def _write(self) -> None:
        number = 0
        while not self._done.is_set():
            key = f"w/{number:07}"
            if any(etcd(machine, "kv/put", {"key": text(key), "value": text(key)}, 0.5) for machine in MACHINES):
                now = time.monotonic()
                self._longest_s, self._last = max(self._longest_s, now - self._last), now
                self.acknowledged.append(key)
                number += 1
            self._done.wait(0.01)
