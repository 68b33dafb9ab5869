"""The cluster of this example as a script sees it: its provider, its machines, what etcd and InfraKit say of it."""

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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

DECLARATION = Path(__file__).parent / "infrakit.yaml"
MACHINES = ("127.0.20.1", "127.0.20.2", "127.0.20.3")
PROVIDER = "127.0.20.254:24864"
STORE = "etcd://" + ",".join(f"{machine}:12379" for machine in MACHINES) + "/infrakit"
PATIENCE_S = 90.0
LOOK_S = 0.02

Facts = dict[str, Any]


class Broken(Exception):
    """A promise was not kept, or nothing happened for too long."""


def wait_for(what: str, condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Look again and again until it is true; answers what the condition did."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Broken(f"{what}: not within {patience_s:.0f} s")
        time.sleep(LOOK_S)
    return value


def etcd(machine: str, path: str, request: Mapping[str, object], timeout_s: float = 1.0) -> Facts | None:
    """What the member of etcd there answers to a call of its JSON gateway; None if it does not."""
    body = json.dumps(request).encode()
    call = urllib.request.Request(f"http://{machine}:12379/v3/{path}", data=body, method="POST")
    try:
        with urllib.request.urlopen(call, timeout=timeout_s) as answer:
            facts: Facts = json.loads(answer.read())
            return facts
    except (OSError, ValueError, urllib.error.HTTPError):
        return None


def text(value: str) -> str:
    """As etcd's JSON writes bytes."""
    return base64.b64encode(value.encode()).decode()


class Cluster:
    """Everything is below one directory, which must have a short path: a socket's has at most 107 bytes."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "provider"
        beside = Path(sys.executable).parent
        path = f"{beside}:{os.environ.get('PATH', '')}" if (beside / "infrakit").exists() else os.environ["PATH"]
        for program in ("infrakit", "etcd", "etcdctl"):
            if shutil.which(program, path=path) is None:
                raise Broken(
                    f"there is no {program}: python -m pip install . in a clone; "
                    "apt-get install etcd-server etcd-client"
                )
        self.program = str(shutil.which("infrakit", path=path))
        self.environment = {**os.environ, "PATH": path, "INFRAKIT_HOME": str(self.home), "NO_COLOR": "1"}
        self.log = directory / "provider.log"
        self._provider: subprocess.Popen[bytes] | None = None

    # -- the life of it --------------------------------------------------------------------------------------------

    def start_provider(self) -> None:
        """The provider of machines, which a cloud would be elsewhere."""
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
        wait_for("the provider serves", (self.home / "plugins" / "local").exists)

    def bootstrap(self, *options: str) -> str:
        """The one command."""
        return self.run("bootstrap", str(DECLARATION), "--store", STORE, *options)

    def run(self, *words: str, at: str = "", timeout_s: float = PATIENCE_S) -> str:
        """A command of InfraKit, which must succeed; `at` is the machine whose replica is asked."""
        environment = self.environment | ({"INFRAKIT_HOST": f"http://{at}:24864"} if at else {})
        done = subprocess.run(
            [self.program, *words], env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise Broken(f"infrakit {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def stop(self) -> None:
        """Leave nothing running, whatever happened."""
        if self._provider is not None:
            self._provider.kill()
            self._provider.wait()
        for machine in MACHINES:
            for pid in self.processes(machine):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def last_words(self) -> str:
        """What the machines and the provider have printed last."""
        logs = [self.log, *sorted((self.home / "local").rglob("log*"))]
        return "\n".join(
            f"--- {log.relative_to(self.home.parent)}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            for log in logs
            if log.is_file()
        )

    # -- machines --------------------------------------------------------------------------------------------------

    def processes(self, machine: str) -> list[int]:
        """Everything that runs on that machine, by what the provider has put into its environment."""
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
        """The power of these machines fails: nothing on them runs another instruction."""
        pids = [pid for machine in machines for pid in self.processes(machine)]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none sees another die
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def lose_volume(self, machine: str) -> None:
        """What a machine has written goes; it does not notice while it runs."""
        volume = self.home / "local" / "volumes" / f"etcd-{machine}"
        volume.rename(self.home / f"lost-{machine}")

    # -- looking ---------------------------------------------------------------------------------------------------

    def leader(self) -> str:
        """The machine whose member leads etcd, as a quorum of members says; empty: none."""
        votes: dict[str, int] = {}
        names = self.members()
        for machine in MACHINES:
            status = etcd(machine, "maintenance/status", {})
            if status is not None and status.get("leader", "0") != "0":
                votes[status["leader"]] = votes.get(status["leader"], 0) + 1
        return next((name for name, member in names.items() if votes.get(member, 0) > 1), "")

    def members(self) -> dict[str, str]:
        """The members of etcd and their IDs."""
        for machine in MACHINES:
            listed = etcd(machine, "cluster/member/list", {})
            if listed is not None:
                return {each.get("name", ""): each["ID"] for each in listed["members"]}
        return {}

    def replicas(self) -> Facts:
        """What InfraKit says of its replicas, asked of any that answers."""
        for machine in MACHINES:
            with contextlib.suppress(Broken, subprocess.TimeoutExpired):
                facts: Facts = json.loads(self.run("leader", "-o", "json", at=machine, timeout_s=10))
                return facts
        return {}

    def status(self) -> Facts:
        """What exists against what is declared, asked of any replica that can tell."""
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
    """Print what all replicas do, each of which has a journal of its own; one that dies is asked again."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: dict[str, subprocess.Popen[str]] = {}
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._follow, args=(machine,)) for machine in MACHINES]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for process in list(self._asked.values()):
            process.kill()
        for thread in self._threads:
            thread.join()

    def _follow(self, machine: str) -> None:
        """Ask again from where it broke off, so that nothing is missed and nothing told twice."""
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
            self._asked[machine] = process
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
    """Writes to etcd all the time, a key after the other, and remembers which were acknowledged."""

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
        """The longest time without an acknowledged write since this was last asked, seconds."""
        longest_s = max(self._longest_s, time.monotonic() - self._last)
        self._longest_s = 0.0
        return longest_s

    def lost(self) -> list[str]:
        """Acknowledged, and not there any more."""
        acknowledged = list(self.acknowledged)  # before the read: what is written after it need not be in it
        request = {"key": text("w/"), "range_end": text("w0"), "keys_only": True}
        read = wait_for(
            "etcd answers a read",
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
