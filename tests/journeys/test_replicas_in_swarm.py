"""Three replicas beside the three managers of a real Swarm, which stores their declaration and elects the leader."""

import signal
from collections.abc import Iterator

import pytest

from tests.integration.swarm.engines import Engines, needs_swarm, running
from tests.journeys.operator import cattle
from tests.journeys.replicas import InSwarm, acting

pytestmark = [needs_swarm, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def engines() -> Iterator[Engines]:
    with running(3) as engines:
        yield engines


@pytest.fixture
def replicas(engines: Engines) -> Iterator[InSwarm]:
    replicas = InSwarm(engines)
    try:
        replicas.start("n1", "n2", "n3")
        yield replicas
    finally:
        replicas.close()


def test_failover_to_another_replica_after_the_leaders_node_is_killed(engines: Engines, replicas: InSwarm) -> None:
    some, other = replicas.operators["n2"], replicas.operators["n3"]
    assert acting(some) == "n1"
    some.commit(cattle("web", 3))
    instances = {m["ID"] for m in other.ask("instance", "ls")}
    assert len(instances) == 3
    engines.nodes[0].kill()
    assert replicas.operators["n1"].end_daemon(signal.SIGKILL) == -signal.SIGKILL
    leader = acting(some, lambda name: name in ("n2", "n3"))
    replicas.operators[leader].converged()
    assert {m["ID"] for m in other.ask("instance", "ls")} == instances
    other("group", "scale", "web", "4", "--wait=120s")

    engines.nodes[0].start()
    replicas.up("n1")
    assert acting(replicas.operators["n1"]) == leader
    assert len(replicas.operators["n1"].ask("instance", "ls")) == 4


def test_a_leader_that_was_suspended_with_its_engine_does_not_act_when_it_resumes(
    engines: Engines, replicas: InSwarm
) -> None:
    suspended, some = replicas.operators["n1"], replicas.operators["n2"]
    assert acting(some) == "n1"
    some.commit(cattle("web", 2))
    assert suspended.daemon is not None
    suspended.daemon.send_signal(signal.SIGSTOP)
    engines.nodes[0].pause()
    leader = acting(some, lambda name: name in ("n2", "n3"))
    some("group", "scale", "web", "3", "--wait=120s")
    instances = {m["ID"] for m in some.ask("instance", "ls")}

    suspended.daemon.send_signal(signal.SIGCONT)  # it knows one healthy instance less, and believes that it leads
    engines.nodes[0].resume()
    assert acting(suspended, lambda name: name not in ("", "n1")) == leader
    some.converged()
    assert {m["ID"] for m in some.ask("instance", "ls")} == instances
