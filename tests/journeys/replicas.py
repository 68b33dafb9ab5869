"""Several daemons on this machine, each with its own home, which share one provider of processes."""

import json
import subprocess
from collections.abc import Callable

from infrakit.leadership.file import write_leader
from tests.integration.etcd.members import Cluster
from tests.integration.swarm.engines import Engines
from tests.journeys.operator import Operator

ELECTION_S = 120.0


class Replicas:
    """Operators of three replicas on one machine, which share one provider of processes."""

    def __init__(self) -> None:
        self.provider = Operator()
        self.root = self.provider.home
        self.operators: dict[str, Operator] = {}
        self.leader_file = self.root / "leader"

    def start(self, *names: str) -> None:
        """Start the shared provider, then each replica; none leads yet."""
        self.provider.run_in_background("plugin", "start", "local")
        socket = self.root / "home" / "plugins" / "local"
        self.provider.until(socket.exists, "the provider listens")
        for name in names:
            one = self.operators[name] = Operator()
            plugins = one.home / "home" / "plugins"
            plugins.mkdir(parents=True)
            (plugins / "local").symlink_to(socket)
            one.environment |= {"INFRAKIT_NAME": name, **self.sources(name)}
            self.up(name)

    def sources(self, name: str) -> dict[str, str]:
        """The store and the source of leadership of that replica."""
        del name
        return {
            "INFRAKIT_STORE": f"file://{self.root}/store",
            "INFRAKIT_LEADERSHIP": f"file://{self.leader_file}",
        }

    def up(self, name: str, *options: str) -> None:
        one = self.operators[name]
        with (one.home / "up0.log").open("a") as log:
            one.daemon = one.start("up", *options, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.provider.until(lambda: answers(one), f"{name} answers")

    def lead(self, name: str) -> None:
        """Write the leader to the file, and wait until it leads."""
        write_leader(self.leader_file, name)
        one = self.operators[name]
        one.until(lambda: one.ask_status()["Leader"], f"{name} leads")

    def close(self) -> None:
        for one in (*self.operators.values(), self.provider):
            one.close()


def answers(one: Operator) -> bool:
    return bool(_leader_output(one))


def _leader_output(one: Operator) -> str:
    """The output of `infrakit leader`, whether the leader is known or not."""
    with one.start("leader", "-o", "json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        out, _ = process.communicate(timeout=60)
    return str(out)


def leader_of(one: Operator) -> str:
    """The active replica, as this one reports it; empty while there is none or it is unknown."""
    leads = [r["Name"] for r in json.loads(_leader_output(one) or "{}").get("Replicas", ()) if r["Role"] == "leader"]
    return leads[0] if leads else ""


def acting(one: Operator, wanted: Callable[[str], bool] = bool) -> str:
    """Wait until a wanted replica is active, after an election if necessary, and return its name."""
    found = ""

    def poll() -> bool:
        nonlocal found
        found = leader_of(one)
        return wanted(found)

    one.until(poll, "a replica is active", timeout_s=ELECTION_S)
    return found


class InEtcd(Replicas):
    """Replicas whose store and leadership are a real etcd: each observes the member of its own name, or campaigns."""

    def __init__(self, cluster: Cluster, *, campaign: bool = False) -> None:
        super().__init__()
        self._campaign = campaign
        self._members = {member.name: member for member in cluster.members}

    def sources(self, name: str) -> dict[str, str]:
        every = ",".join(f"{member.address}:2379" for member in self._members.values())
        local = f"etcd://{self._members[name].address}:2379"
        return {
            "INFRAKIT_STORE": f"etcd://{every}/infrakit",
            "INFRAKIT_LEADERSHIP": f"etcd+campaign://{every}/infrakit" if self._campaign else local,
        }


class InSwarm(Replicas):
    """Replicas whose store and leadership are a real Swarm: each uses the Engine of its own name."""

    def __init__(self, engines: Engines) -> None:
        super().__init__()
        self._nodes = {node.name: node for node in engines.nodes}

    def sources(self, name: str) -> dict[str, str]:
        local = f"swarm://{self._nodes[name].socket}"
        return {"INFRAKIT_STORE": local, "INFRAKIT_LEADERSHIP": local}
