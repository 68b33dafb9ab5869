"""Several daemons that share a store and a file that names the leader: one is active, and each accepts commands."""

import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys.operator import Operator, cattle
from tests.journeys.replicas import Replicas

pytestmark = pytest.mark.slow


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    replicas = Replicas()
    try:
        yield replicas
    finally:
        replicas.close()


def roles(one: Operator) -> dict[str, str]:
    return {r["Name"]: r["Role"] for r in one.ask("leader")["Replicas"]}


def test_one_of_three_replicas_is_active_and_each_accepts_commands(replicas: Replicas) -> None:
    replicas.start("a", "b", "c")
    a, b, c = (replicas.operators[name] for name in "abc")
    output = b("status", exits=2)
    assert "does not lead" in output
    assert "there is no leader" in output
    assert "there is no leader" in b("group", "ls", exits=2)
    assert "no replica is active" in b("instance", "ls", exits=2)

    replicas.lead("a")
    assert roles(c) == {"a": "leader", "b": "follower", "c": "follower"}
    output = b.commit(cattle("web", 3))  # through a follower, which also waits for convergence
    assert "declaration 1" in output
    status = c.ask("status")
    assert (status["Leading"], status["Groups"][0]["Healthy"]) == ("a", 3)
    first = {m["ID"] for m in b.ask("instance", "ls")}
    assert len(first) == 3
    assert "4" in c("why", "web")

    # two operators at two replicas: the later one receives a conflict
    c("group", "scale", "web", "4", "--expect", "1", "--wait=120s")
    output = b("group", "scale", "web", "2", "--expect", "1", exits=2)
    assert "not 1" in output
    assert "Size: 3 -> 4" in output
    first = {m["ID"] for m in b.ask("instance", "ls")}
    assert len(first) == 4

    # the process of the leader is suspended: other replicas time out quickly and report it
    assert a.daemon is not None
    a.daemon.send_signal(signal.SIGSTOP)
    assert "the leader a does not answer at" in b("status", exits=2)
    assert b("leader").splitlines()[0].endswith("; it does not answer")

    # the leader is killed; nothing happens until another replica leads, and then nothing is created twice
    assert a.end_daemon(signal.SIGKILL) == -signal.SIGKILL
    assert "does not answer" in b("status", exits=2)
    replicas.lead("b")
    b.converged()
    assert {m["ID"] for m in c.ask("instance", "ls")} == first
    assert roles(b) == {"a": "away", "b": "leader", "c": "follower"}
    replicas.provider.kill(next(iter(first)))
    b.converged()

    # as if its machine were lost; a replica that answers is refused
    assert "c answers at" in b("leader", "forget", "c", "-m", "a slip", exits=2)
    assert "Removed a" in c("leader", "forget", "a", "-m", "its machine was replaced")
    assert roles(b) == {"b": "leader", "c": "follower"}
    assert "a is no replica any more" in c("events")

    # restarted, it is a follower; a clean shutdown removes a replica from the roster
    replicas.up("a")
    assert roles(a) == {"a": "follower", "b": "leader", "c": "follower"}
    assert c.end_daemon(signal.SIGTERM) == 0
    assert roles(a) == {"a": "follower", "b": "leader"}
    output = a("leader", "resign", exits=2)
    assert "does not support a transfer" in output


def test_flapping_leadership_during_creation_creates_no_duplicates(replicas: Replicas) -> None:
    replicas.start("a", "b")
    a, b = (replicas.operators[name] for name in "ab")
    replicas.lead("a")
    a.commit(cattle("web", 12, instance={}, in_flight=2), wait=False)
    for name in "babab":
        replicas.lead(name)
    b.converged()
    assert len(a.ask("instance", "ls")) == 12
    assert len(running(replicas)) == 12


def running(replicas: Replicas) -> set[Any]:
    return {p.environ()["INFRAKIT_INSTANCE_ID"] for p in replicas.provider.processes()}


def test_a_store_restored_from_a_backup_is_refused_until_an_operator_accepts_it(replicas: Replicas) -> None:
    replicas.start("a")
    a = replicas.operators["a"]
    replicas.lead("a")
    a.commit(cattle("web", 1))
    a.end_daemon(signal.SIGTERM)
    store, backup = replicas.root / "store", replicas.root / "backup"
    subprocess.run(["cp", "-a", store, backup], check=True)
    replicas.up("a")
    replicas.lead("a")
    a("group", "scale", "web", "2", "--wait=120s")
    a.end_daemon(signal.SIGTERM)
    subprocess.run(["rm", "-r", store], check=True)
    backup.rename(store)
    output = a("up", exits=2)
    assert "were read from it before" in output
    assert "--accept-store" in output
    replicas.up("a", "--accept-store")
    replicas.lead("a")
    a.converged()
    assert len(a.ask("instance", "ls")) == 1
