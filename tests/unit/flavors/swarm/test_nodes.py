"""Permitted absences in the node list, and the search for the node of an instance."""

from infrakit.flavors.swarm import leaving
from infrakit.flavors.swarm.nodes import NodeList
from tests.unit.flavors.swarm.values import instance, manager, node


async def test_a_permitted_absence_ends_when_the_node_returns() -> None:
    nodes, before = NodeList("unix:///nowhere"), manager("n1", "old", "10.0.0.1")
    nodes.expect_absence(before)
    assert nodes.expected_absent([before]) == {"n1"}
    assert nodes.expected_absent([manager("n1", "new", "10.0.0.1")]) == set()
    assert nodes.expected_absent([before]) == set()  # it has returned once
    nodes.expect_absence(before)
    assert nodes.expected_absent([]) == set()  # it was removed


def test_a_voter_is_found_by_its_address_if_its_link_differs() -> None:
    voter, other = manager("n1", "old", "10.0.0.1"), manager("n2", "b", "10.0.0.2")
    unlinked = manager("n3", "", "10.0.0.3", engine_labels={})
    listed = [voter, other, unlinked, node("n4", "", "10.0.0.4")]
    assert leaving.find_node(listed, instance("new", "10.0.0.1")) is voter
    assert leaving.find_node(listed, instance("b", "10.0.0.1")) is other  # the link has precedence over the address
    assert leaving.find_node(listed, instance("new", "10.0.0.3")) is unlinked
    assert leaving.find_node(listed, instance("new", "10.0.0.4")) is None  # it has no vote
    assert leaving.find_node(listed, instance("new")) is None
