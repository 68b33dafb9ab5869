"""The Swarm of this example as a script sees it: the Engine that its nodes are containers of, and what the Swarm and
InfraKit say of it. Every look has a deadline: in an election, the Swarm does not answer.
"""

import contextlib
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watcher import NETWORK, instances

HERE = Path(__file__).parent
DECLARATION = HERE / "infrakit.yaml.j2"
MANAGERS = ("10.77.0.11", "10.77.0.12", "10.77.0.13")
CGROUP = "infrakit-swarm"
PATIENCE_S = 180.0
LOOK_S = 0.1
ASK_S = 4.0
INSIDE = ("--env", "DOCKER_HOST=unix:///var/run/docker.sock")  # the node's own Engine, and not that of the host

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


class Cluster:
    """Nodes are known by their addresses, workers by the names of their containers."""

    def __init__(self, *, image: str, run: Path) -> None:
        beside = Path(sys.executable).parent
        path = f"{beside}:{os.environ['PATH']}" if (beside / "infrakit").exists() else os.environ["PATH"]
        for program in ("infrakit", "docker"):
            if shutil.which(program, path=path) is None:
                package = "docker.io, on Debian 13 docker-cli"
                package = "python -m pip install '.[docker]' in a clone" if program == "infrakit" else package
                raise Broken(f"there is no {program}: install it: {package}")
        self.host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        if not self.host.startswith("unix://"):
            raise Broken(f"this demonstration needs the socket of an Engine on this host, and not {self.host}")
        self.engine, self.run_directory = self.host.removeprefix("unix://"), run
        self.variables = {"engine": self.engine, "image": image, "run": str(run)}
        self.environment = {**os.environ, "PATH": path, "DOCKER_HOST": self.host, "NO_COLOR": "1"}
        self.environment["INFRAKIT_HOME"] = str(run / "outside")

    # -- programs --------------------------------------------------------------------------------------------------

    def call(self, *words: str, timeout_s: float = PATIENCE_S, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = self.environment | variables
        return subprocess.run(
            words,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def docker(self, *words: str, timeout_s: float = PATIENCE_S) -> str:
        """What the Engine of this host is told, which must succeed."""
        done = self.call("docker", *words, timeout_s=timeout_s)
        if done.returncode:
            raise Broken(f"docker {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def given(self, **variables: object) -> list[str]:
        """The declaration, and its variables."""
        self.variables |= {name: str(value) for name, value in variables.items()}
        return [str(DECLARATION), *(f"--var={name}={value}" for name, value in self.variables.items())]

    def infrakit(self, *words: str, at: str = "") -> str:
        """A command, which must succeed: asked of the replica at that address, or of none."""
        done = self.call("infrakit", *words, **self.asked(at))
        if done.returncode:
            raise Broken(f"infrakit {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def asked(self, manager: str) -> dict[str, str]:
        """The environment in which commands ask the replica on that manager."""
        return {"INFRAKIT_PLUGINS_DIR": str(self.run_directory / manager)} if manager else {}

    def ask(self, *words: str) -> Any:
        """What any replica that can tell says to a command; None: nobody does."""
        for manager in MANAGERS:
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                done = self.call("infrakit", *words, "-o", "json", timeout_s=10.0, **self.asked(manager))
                if done.returncode in (0, 3) and done.stdout:
                    return json.loads(done.stdout)
        return None

    def events(self, since: float) -> list[Facts]:
        """What all replicas have told since then (seconds since 1970), in order; those who are away are left out."""
        found = []
        for manager in MANAGERS:
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                ago = f"{time.time() - since + 1:.0f}s"
                done = self.call(
                    "infrakit", "events", "--since", ago, "-o", "json", timeout_s=10.0, **self.asked(manager)
                )
                found += [json.loads(line) | {"Replica": manager} for line in done.stdout.splitlines()]
        return sorted(found, key=lambda each: str(each["Timestamp"]))

    # -- nodes as containers ---------------------------------------------------------------------------------------

    def containers(self) -> dict[str, str]:
        """Those that run or are frozen: by address for managers, by name for workers, with their IDs."""
        found = {}
        for each in instances(self.engine):
            if each["State"] in ("running", "paused"):
                address = each["Labels"].get("infrakit.docker.logical-id")
                found[address or each["Names"][0].lstrip("/")] = str(each["Id"])
        return found

    def workers(self) -> list[str]:
        return sorted(set(self.containers()) - set(MANAGERS))

    # -- what the Swarm says ---------------------------------------------------------------------------------------

    def inside(self, node: str, script: str, timeout_s: float = ASK_S) -> str | None:
        """What a shell on that node prints; None: it does not succeed in time."""
        container = self.containers().get(node)
        if container is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = self.call(
                "docker",
                "exec",
                *INSIDE,
                container,
                "timeout",
                f"{timeout_s:g}",
                "sh",
                "-c",
                script,
                timeout_s=timeout_s + 1,
            )
            return done.stdout if done.returncode == 0 else None
        return None

    def nodes(self, *, ask: str = "", timeout_s: float = ASK_S) -> list[Facts]:
        """The Swarm's own list, of whichever manager answers; empty: none does."""
        script = "docker node inspect $(docker node ls --quiet)"
        for manager in (ask,) if ask else MANAGERS:
            if (told := self.inside(manager, script, timeout_s)) is not None:
                found: list[Facts] = json.loads(told)
                return found
        return []

    def leader(self, *, but: str = "") -> str:
        """The address of the Swarm's leader, as another manager than `but` knows it; empty: nobody can tell."""
        for manager in MANAGERS:
            if manager != but and manager in self.containers():
                for node in self.nodes(ask=manager, timeout_s=1.0):
                    if (node.get("ManagerStatus") or {}).get("Leader"):
                        return _address(node) if _address(node) != but else ""
        return ""

    def elected(self, since: float) -> float | None:
        """When a manager last said that it was elected, seconds since 1970; None: none has since then."""
        found: list[float] = []
        for manager in set(MANAGERS) & set(self.containers()):
            ago = datetime.datetime.fromtimestamp(since, datetime.UTC).isoformat()
            log = self.call("docker", "logs", "--since", ago, self.containers()[manager]).stderr
            lines = re.findall(r'time="([^"]+)" level=info msg="[^"]*became leader at term', log)
            found += [datetime.datetime.fromisoformat(each).timestamp() for each in lines]
        return max(found, default=None)

    def identities(self) -> dict[str, str]:
        """The node IDs of the managers, by address."""
        return {_address(each): str(each["ID"]) for each in self.nodes() if each.get("ManagerStatus")}

    def shortfall(self, workers: int) -> str:
        """What the Swarm lacks of being whole: three managers that are reachable, the workers, and no other node."""
        nodes = self.nodes()
        if not nodes:
            return "no manager answers"
        absent = [each for each in nodes if each["Status"]["State"] != "ready"]
        managers = {
            _address(each) for each in nodes if (each.get("ManagerStatus") or {}).get("Reachability") == "reachable"
        }
        if managers != set(MANAGERS):
            return f"managers that are reachable: {', '.join(sorted(managers)) or 'none'}"
        if absent:
            return f"nodes that are not ready: {', '.join(each['ID'] for each in absent)}"
        there = len(nodes) - len(managers)
        return "" if there == workers else f"{there} workers, and {workers} are declared"

    def whole(self, workers: int) -> bool:
        """By the Swarm's list, and by InfraKit's own word."""
        if self.shortfall(workers):
            return False
        status = self.ask("status")
        return bool(status and status["Groups"]) and all(each["Converged"] for each in status["Groups"])

    # -- the end ---------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Leave nothing, whatever happened: everything here was made for this demonstration."""
        for _ in range(5):  # while one lives, others are made again
            there = [each["Id"] for each in instances(self.engine)]
            if not there:
                break
            self.call("docker", "rm", "--force", "--volumes", *there)
        for manager in MANAGERS:
            self.call("docker", "volume", "rm", f"swarm-{manager}")
        self.call("docker", "network", "rm", NETWORK)
        root = Path("/sys/fs/cgroup")
        for controller in (root / CGROUP, *root.glob(f"*/{CGROUP}")):  # one, or with cgroups of version 1 many
            for each in (*sorted(controller.rglob("*/"), reverse=True), controller):
                with contextlib.suppress(OSError):
                    each.rmdir()
        shutil.rmtree(self.run_directory, ignore_errors=True)

    def last_words(self) -> str:
        """What the nodes have printed last."""
        said = [f"the Swarm: {self.shortfall(0)}"]
        for name, container in self.containers().items():
            done = self.call("docker", "logs", "--tail", "12", container)
            said.append(f"--- {name}\n{(done.stdout + done.stderr).strip()}")
        return "\n".join(said)


def _address(node: Facts) -> str:
    """Of a manager, as the others reach it; of another node, as the Swarm sees it."""
    manager = (node.get("ManagerStatus") or {}).get("Addr", "")
    return manager.rpartition(":")[0] or str(node["Status"].get("Addr", ""))
