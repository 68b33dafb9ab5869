"""The verdict on one instance, from the node list."""

import pytest

from infrakit.clients.swarm_values import Manager, Node
from infrakit.flavors.swarm import health
from infrakit.spi.values import Description, Health, InstanceID, State
from tests.unit.flavors.swarm.values import instance, manager, node

WORKER = instance("a")
UNKNOWN, HEALTHY, UNHEALTHY = Health.UNKNOWN, Health.HEALTHY, Health.UNHEALTHY


def manager_of_unknown_reachability(id_: str, link: str) -> Node:
    return manager(id_, link, manager=Manager(addr="", leader=False, reachability="unknown"))


@pytest.mark.parametrize(
    ("nodes", "verdict", "words"),
    [
        ([], UNHEALTHY, "not in the node list"),
        ([node("n", "b")], UNHEALTHY, "not in the node list"),
        ([node("n", "a")], HEALTHY, "ready"),
        ([node("n", "a", availability="drain")], HEALTHY, "ready, drain"),
        ([node("n", "a", state="down", message="heartbeat failure")], UNHEALTHY, "n is down: heartbeat failure"),
        ([node("n", "a", state="unknown")], UNKNOWN, "n is unknown"),
        ([node("n", "a", state="disconnected")], UNKNOWN, "n is disconnected"),
        ([node("old", "a", state="down"), node("new", "a")], HEALTHY, "ready"),
        ([node("one", "a"), node("two", "a")], UNKNOWN, "2 nodes have its link: one, two"),
    ],
)
def test_the_verdict_on_a_worker(nodes: list[Node], verdict: Health, words: str) -> None:
    found = health.verdict(WORKER, health.by_link(nodes), manager=False)
    assert (found.health, words in found.note) == (verdict, True), found


@pytest.mark.parametrize(
    ("own", "verdict", "words"),
    [
        (manager("n", "a", leads=True), HEALTHY, "leads"),
        (manager("n", "a"), HEALTHY, "reachable"),
        (manager("n", "a", able=False, state="ready"), UNHEALTHY, "the other managers do not reach the node n"),
        (manager("n", "a", able=False), UNHEALTHY, "n is down"),
        (manager_of_unknown_reachability("n", "a"), UNKNOWN, "does not know yet"),
        (node("n", "a"), UNKNOWN, "waits for its promotion to manager"),
        (node("n", "a", role="manager"), UNKNOWN, "is being promoted to manager"),
        (node("n", "a", state="down"), UNHEALTHY, "n is down"),
    ],
)
def test_the_verdict_on_a_manager(own: Node, verdict: Health, words: str) -> None:
    found = health.verdict(WORKER, health.by_link([manager("other", "b"), own]), manager=True)
    assert (found.health, words in found.note) == (verdict, True), found


def test_the_state_that_the_provider_reports_takes_precedence() -> None:
    nodes = health.by_link([node("n", "a")])
    for state, expected in ((State.PENDING, UNKNOWN), (State.STOPPING, UNKNOWN), (State.FINISHED, UNHEALTHY)):
        assert health.verdict(instance("a", state=state), nodes, manager=False).health is expected
    unlinked = Description(id=InstanceID("i"), state=State.RUNNING)
    assert "no tag infrakit_link" in health.verdict(unlinked, nodes, manager=False).note
