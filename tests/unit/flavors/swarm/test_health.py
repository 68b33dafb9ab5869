"""What the list says of one instance."""

import pytest

from infrakit.clients.swarm_values import Manager, Node
from infrakit.flavors.swarm import health
from infrakit.spi.values import Description, Health, InstanceID, State
from tests.unit.flavors.swarm.values import instance, manager, node

WORKER = instance("a")
UNKNOWN, HEALTHY, UNHEALTHY = Health.UNKNOWN, Health.HEALTHY, Health.UNHEALTHY


def unsure(id_: str, link: str) -> Node:
    return manager(id_, link, manager=Manager(addr="", leader=False, reachability="unknown"))


@pytest.mark.parametrize(
    ("nodes", "verdict", "words"),
    [
        ([], UNHEALTHY, "does not list it"),
        ([node("n", "b")], UNHEALTHY, "does not list it"),
        ([node("n", "a")], HEALTHY, "ready"),
        ([node("n", "a", availability="drain")], HEALTHY, "ready, drain"),
        ([node("n", "a", state="down", message="heartbeat failure")], UNHEALTHY, "n is down: heartbeat failure"),
        ([node("n", "a", state="unknown")], UNKNOWN, "n is unknown"),
        ([node("n", "a", state="disconnected")], UNKNOWN, "n is disconnected"),
        ([node("old", "a", state="down"), node("new", "a")], HEALTHY, "ready"),
        ([node("one", "a"), node("two", "a")], UNKNOWN, "2 nodes are of its link: one, two"),
    ],
)
def test_a_worker(nodes: list[Node], verdict: Health, words: str) -> None:
    found = health.verdict(WORKER, health.by_link(nodes), manager=False)
    assert (found.health, words in found.note) == (verdict, True), found


@pytest.mark.parametrize(
    ("own", "verdict", "words"),
    [
        (manager("n", "a", leads=True), HEALTHY, "leads"),
        (manager("n", "a"), HEALTHY, "reachable"),
        (manager("n", "a", able=False, state="ready"), UNHEALTHY, "the other managers do not reach the node n"),
        (manager("n", "a", able=False), UNHEALTHY, "n is down"),
        (unsure("n", "a"), UNKNOWN, "cannot tell yet"),
        (node("n", "a"), UNKNOWN, "waits to be made a manager"),
        (node("n", "a", role="manager"), UNKNOWN, "joins the managers"),
        (node("n", "a", state="down"), UNHEALTHY, "n is down"),
    ],
)
def test_a_manager(own: Node, verdict: Health, words: str) -> None:
    found = health.verdict(WORKER, health.by_link([manager("other", "b"), own]), manager=True)
    assert (found.health, words in found.note) == (verdict, True), found


def test_what_the_provider_knows_comes_first() -> None:
    nodes = health.by_link([node("n", "a")])
    for state, expected in ((State.PENDING, UNKNOWN), (State.STOPPING, UNKNOWN), (State.FINISHED, UNHEALTHY)):
        assert health.verdict(instance("a", state=state), nodes, manager=False).health is expected
    stranger = Description(id=InstanceID("i"), state=State.RUNNING)
    assert "no tag infrakit_link" in health.verdict(stranger, nodes, manager=False).note
