"""The life of an etcd cluster: failures, scaling and rolling updates, with real daemons, processes and volumes."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.etcd.members import address, needs_etcd
from tests.journeys.operator import QUICK, Operator

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.timeout(300)]
ARGS = ["--heartbeat-interval=50", "--election-timeout=500", "--logger=zap", "--log-level=error"]


@pytest.fixture
def operator() -> Iterator[Operator]:
    operator = Operator()
    try:
        yield operator
    finally:
        operator.close()


def etcd(addresses: Sequence[str], **properties: Any) -> dict[str, Any]:
    """A declared group of members."""
    return {
        "kind": "group",
        "metadata": {"name": "etcd"},
        "properties": {
            "Allocation": {"LogicalIDs": list(addresses)},
            "Instance": {"Plugin": "local"},
            "Flavor": {"Plugin": "etcd", "Properties": {"ExtraArgs": ARGS, "Volume": "db-{LogicalID}"} | properties},
            "Healing": QUICK | {"BootGrace": "60s"},
            "Updating": {"Settle": "200ms"},
        },
    }


class Client:
    """etcdctl, as the operator calls it."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._endpoints = ",".join(f"http://{each}:2379" for each in addresses)

    def __call__(self, *words: str) -> str:
        command = ["etcdctl", "--endpoints", self._endpoints, "--command-timeout=20s", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def members(self) -> dict[str, int]:
        """The ID of each member by its name."""
        return {m.get("name", ""): m["ID"] for m in json.loads(self("member", "list", "-w", "json"))["members"]}

    def leader(self) -> str:
        """The name of the leader."""
        found = json.loads(self("endpoint", "status", "-w", "json"))[0]["Status"]["leader"]
        return next(name for name, member in self.members().items() if member == found)

    def put(self, key: str, value: str) -> None:
        self("put", key, value)

    def get(self, key: str) -> str:
        return self("get", "--print-value-only", key).strip()


def volume_of(operator: Operator, member: str) -> Path:
    return next((operator.home / "home").glob(f"**/volumes/db-{member}"))


def replaced(operator: Operator, member: str, before: dict[str, dict[str, Any]]) -> bool:
    """Whether a new instance has the address."""
    now = operator.members("etcd")
    return member in now and now[member]["ID"] != before[member]["ID"]


def test_members_are_replaced_with_or_without_their_data(operator: Operator) -> None:
    addresses = [address() for _ in range(3)]
    client = Client(addresses)
    operator.up(etcd(addresses))
    operator.converged()
    client.put("k", "kept")
    first, machines = client.members(), operator.members("etcd")
    assert set(first) == set(addresses)
    leader = client.leader()
    operator.kill(machines[leader]["ID"])  # every process of the machine at once
    operator.until(lambda: replaced(operator, leader, machines), "it is replaced")
    operator.converged()
    assert client.members() == first
    assert Client([leader]).get("k") == "kept"
    machines, lost = operator.members("etcd"), addresses[0]  # the member that bootstrapped the cluster
    operator.end_daemon()  # so that it does not recreate the instance first
    operator.kill(machines[lost]["ID"])
    shutil.rmtree(volume_of(operator, lost))
    operator.up(etcd(addresses))
    operator.until(lambda: replaced(operator, lost, machines), "it is replaced")
    operator.converged()
    second = client.members()
    assert {name for name in second if second[name] != first[name]} == {lost}
    assert Client([lost]).get("k") == "kept"
    machines = operator.members("etcd")
    for killed in addresses[1:]:  # the quorum is lost, and recovers from its volumes
        operator.kill(machines[killed]["ID"])
    operator.until(lambda: all(replaced(operator, killed, machines) for killed in addresses[1:]), "both are replaced")
    operator.converged()
    assert client.members() == second
    assert client.get("k") == "kept"


def test_a_cluster_is_scaled_and_updated_one_member_at_a_time(operator: Operator) -> None:
    addresses = [address() for _ in range(5)]
    three, others = addresses[:3], addresses[2:]
    client = Client(three)
    operator.up(etcd(three))
    operator.converged()
    client.put("k", "kept")
    operator.commit(etcd(addresses), wait=False)
    operator.converged()
    grown = client.members()
    assert set(grown) == set(addresses)
    assert Client(addresses[4:]).get("k") == "kept"
    operator.commit(etcd(others), wait=False)  # the member that bootstrapped it is removed, too
    operator.until(lambda: not {*addresses[:2]} & operator.members("etcd").keys(), "two are removed")
    operator.converged()
    remaining = Client(others)
    assert remaining.members() == {name: grown[name] for name in others}
    events = operator("events")
    assert "members of a quorum join one at a time" in events
    assert "members leave a quorum one at a time" in events
    before = operator.members("etcd")
    operator.commit(etcd(others, MaxLag=5000))  # only the leader uses it: no member is replaced for it
    operator.converged()
    assert not any(replaced(operator, each, before) for each in others)
    changed = {"MaxLag": 5000, "ExtraArgs": [*ARGS, "--max-txn-ops=256"]}
    operator.commit(etcd(others, **changed), wait=False)
    operator.until(lambda: all(replaced(operator, each, before) for each in others), "all are replaced")
    operator.converged()
    assert remaining.members() == {name: grown[name] for name in others}
    assert remaining.get("k") == "kept"
    # Its volume still holds the data of the removed member.
    operator.commit(etcd([*others, addresses[0]], **changed), wait=False)
    operator.converged()
    assert Client(addresses[:1]).get("k") == "kept"
    assert remaining.members()[addresses[0]] != grown[addresses[0]]
