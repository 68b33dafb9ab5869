"""The Swarm of this example, for scripts: its nodes as containers, and the state that the Swarm and InfraKit report.

Every request has a timeout: during an election, the Swarm does not respond.
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
from pathlib import Path
from typing import Any

from timeline import TIMEOUT_S, CheckFailed
from watcher import NETWORK, instances

HERE = Path(__file__).parent
DECLARATION = HERE / "infrakit.yaml.j2"
MANAGERS = ("10.77.0.11", "10.77.0.12", "10.77.0.13")
CGROUP = "infrakit-swarm"
REQUEST_TIMEOUT_S = 4.0
INSIDE = ("--env", "DOCKER_HOST=unix:///var/run/docker.sock")  # the Engine of the node, not that of the host

Facts = dict[str, Any]


class Cluster:
    """The cluster. Managers are identified by their addresses, workers by the names of their containers."""

    def __init__(self, *, image: str, run: Path) -> None:
        bin_directory = Path(sys.executable).parent
        path = f"{bin_directory}:{os.environ['PATH']}" if (bin_directory / "infrakit").exists() else os.environ["PATH"]
        for program in ("infrakit", "docker"):
            if shutil.which(program, path=path) is None:
                package = "docker.io, on Debian 13 docker-cli"
                package = "python -m pip install '.[docker]' in a clone" if program == "infrakit" else package
                raise CheckFailed(f"{program} is not installed; install it: {package}")
        self.host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        if not self.host.startswith("unix://"):
            raise CheckFailed(f"this demonstration needs the socket of an Engine on this host, not {self.host}")
        self.engine, self.run_directory = self.host.removeprefix("unix://"), run
        self.variables = {"engine": self.engine, "image": image, "run": str(run)}
        self.environment = {**os.environ, "PATH": path, "DOCKER_HOST": self.host, "NO_COLOR": "1"}
        self.environment["INFRAKIT_HOME"] = str(run / "outside")

    # -- programs --------------------------------------------------------------------------------------------------

    def call(self, *words: str, timeout_s: float = TIMEOUT_S, **variables: str) -> "subprocess.CompletedProcess[str]":
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

    def docker(self, *words: str, timeout_s: float = TIMEOUT_S) -> str:
        """Run a `docker` command at the Engine of this host, which must succeed."""
        done = self.call("docker", *words, timeout_s=timeout_s)
        if done.returncode:
            raise CheckFailed(f"docker {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def given(self, **variables: object) -> list[str]:
        """Return the arguments for the declaration and its variables."""
        self.variables |= {name: str(value) for name, value in variables.items()}
        return [str(DECLARATION), *(f"--var={name}={value}" for name, value in self.variables.items())]

    def infrakit(self, *words: str, at: str = "") -> str:
        """Run an `infrakit` command, which must succeed; `at` is the manager whose replica receives it."""
        done = self.call("infrakit", *words, **self.asked(at))
        if done.returncode:
            raise CheckFailed(f"infrakit {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def asked(self, manager: str) -> dict[str, str]:
        """Return the environment in which commands connect to the replica on a manager."""
        return {"INFRAKIT_PLUGINS_DIR": str(self.run_directory / manager)} if manager else {}

    def ask(self, *words: str) -> Any:
        """Run a command at the first replica that responds; None: none does."""
        for manager in MANAGERS:
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                done = self.call("infrakit", *words, "-o", "json", timeout_s=10.0, **self.asked(manager))
                if done.returncode in (0, 3) and done.stdout:
                    return json.loads(done.stdout)
        return None

    def events(self, since: float) -> list[Facts]:
        """Return the events of all reachable replicas since a time (seconds since 1970), in order."""
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
        """Return the IDs of running and paused containers, by address for managers and by name for workers."""
        found = {}
        for each in instances(self.engine):
            if each["State"] in ("running", "paused"):
                address = each["Labels"].get("infrakit.docker.logical-id")
                found[address or each["Names"][0].lstrip("/")] = str(each["Id"])
        return found

    def workers(self) -> list[str]:
        return sorted(set(self.containers()) - set(MANAGERS))

    # -- the state of the Swarm ------------------------------------------------------------------------------------

    def inside(self, node: str, script: str, timeout_s: float = REQUEST_TIMEOUT_S) -> str | None:
        """Run a shell script on a node and return its output; None if it fails or times out."""
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

    def nodes(self, *, ask: str = "", timeout_s: float = REQUEST_TIMEOUT_S) -> list[Facts]:
        """Return the node list of the Swarm from the first manager that responds; empty if none does."""
        script = "docker node inspect $(docker node ls --quiet)"
        for manager in (ask,) if ask else MANAGERS:
            if (listed := self.inside(manager, script, timeout_s)) is not None:
                found: list[Facts] = json.loads(listed)
                return found
        return []

    def leader(self, *, but: str = "") -> str:
        """Return the address of the Swarm's leader as a manager other than `but` reports it; empty if unknown."""
        for manager in MANAGERS:
            if manager != but and manager in self.containers():
                for node in self.nodes(ask=manager, timeout_s=1.0):
                    if (node.get("ManagerStatus") or {}).get("Leader"):
                        return _address(node) if _address(node) != but else ""
        return ""

    def elected(self, since: float) -> float | None:
        """Return the time of the last election that a manager logged, in seconds since 1970; None if there is none."""
        found: list[float] = []
        for manager in set(MANAGERS) & set(self.containers()):
            ago = datetime.datetime.fromtimestamp(since, datetime.UTC).isoformat()
            log = self.call("docker", "logs", "--since", ago, self.containers()[manager]).stderr
            lines = re.findall(r'time="([^"]+)" level=info msg="[^"]*became leader at term', log)
            found += [datetime.datetime.fromisoformat(each).timestamp() for each in lines]
        return max(found, default=None)

    def identities(self) -> dict[str, str]:
        """Return the node IDs of the managers by address."""
        return {_address(each): str(each["ID"]) for each in self.nodes() if each.get("ManagerStatus")}

    def shortfall(self, workers: int) -> str:
        """Explain what the Swarm lacks: three reachable managers, the workers, and no other node; empty if complete."""
        nodes = self.nodes()
        if not nodes:
            return "no manager responds"
        absent = [each for each in nodes if each["Status"]["State"] != "ready"]
        managers = {
            _address(each) for each in nodes if (each.get("ManagerStatus") or {}).get("Reachability") == "reachable"
        }
        if managers != set(MANAGERS):
            return f"reachable managers: {', '.join(sorted(managers)) or 'none'}"
        if absent:
            return f"nodes not ready: {', '.join(each['ID'] for each in absent)}"
        there = len(nodes) - len(managers)
        return "" if there == workers else f"{there} workers, and {workers} are declared"

    def complete(self, workers: int) -> bool:
        """Whether the Swarm is complete and every group of InfraKit has converged."""
        if self.shortfall(workers):
            return False
        status = self.ask("status")
        return bool(status and status["Groups"]) and all(each["Converged"] for each in status["Groups"])

    # -- cleanup ---------------------------------------------------------------------------------------------------

    def tear_down(self) -> None:
        """Remove everything that was created for this demonstration, after success and after failure."""
        for _ in range(5):  # replicas that still run recreate others
            there = [each["Id"] for each in instances(self.engine)]
            if not there:
                break
            self.call("docker", "rm", "--force", "--volumes", *there)
        for manager in MANAGERS:
            self.call("docker", "volume", "rm", f"swarm-{manager}")
        self.call("docker", "network", "rm", NETWORK)
        root = Path("/sys/fs/cgroup")
        for controller in (root / CGROUP, *root.glob(f"*/{CGROUP}")):  # cgroups version 1 has one for each controller
            for each in (*sorted(controller.rglob("*/"), reverse=True), controller):
                with contextlib.suppress(OSError):
                    each.rmdir()
        shutil.rmtree(self.run_directory, ignore_errors=True)

    def recent_logs(self) -> str:
        """Return the last lines that the nodes have logged."""
        printed = [f"the Swarm: {self.shortfall(0)}"]
        for name, container in self.containers().items():
            done = self.call("docker", "logs", "--tail", "12", container)
            printed.append(f"--- {name}\n{(done.stdout + done.stderr).strip()}")
        return "\n".join(printed)


def _address(node: Facts) -> str:
    """Return the address of a node: for a manager its advertised address, else the address that the Swarm observes."""
    manager = (node.get("ManagerStatus") or {}).get("Addr", "")
    return manager.rpartition(":")[0] or str(node["Status"].get("Addr", ""))
