"""What is remembered of the list of nodes."""

from infrakit.flavors.swarm import leaving
from infrakit.flavors.swarm.nodes import NodeList
from tests.unit.flavors.swarm.values import instance, manager, node


async def test_who_was_let_go_counts_until_another_is_there() -> None:
    nodes, before = NodeList("unix:///nowhere"), manager("n1", "old", "10.0.0.1")
    nodes.spare(before)
    assert nodes.spared([before]) == {"n1"}
    assert nodes.spared([manager("n1", "new", "10.0.0.1")]) == set()
    assert nodes.spared([before]) == set()  # it has come back once
    nodes.spare(before)
    assert nodes.spared([]) == set()  # it was taken off


def test_a_voter_is_found_at_its_address_while_its_link_is_another() -> None:
    voter, other = manager("n1", "old", "10.0.0.1"), manager("n2", "b", "10.0.0.2")
    unlinked = manager("n3", "", "10.0.0.3", engine_labels={})
    listed = [voter, other, unlinked, node("n4", "", "10.0.0.4")]
    assert leaving.found(listed, instance("new", "10.0.0.1")) is voter
    assert leaving.found(listed, instance("b", "10.0.0.1")) is other  # the link says more than the address
    assert leaving.found(listed, instance("new", "10.0.0.3")) is unlinked
    assert leaving.found(listed, instance("new", "10.0.0.4")) is None  # it has no vote
    assert leaving.found(listed, instance("new")) is None
