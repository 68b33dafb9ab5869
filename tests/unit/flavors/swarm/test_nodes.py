"""Permitted absences in the node list, and the search for the node of an instance."""

import asyncio

from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import leaving
from infrakit.flavors.swarm.nodes import ABSENCE_S, NodeList
from tests.stage import in_virtual_time
from tests.unit.flavors.swarm.values import instance, manager, node


async def test_a_permitted_absence_ends_when_the_node_returns() -> None:
    nodes, before = NodeList("unix:///nowhere"), manager("n1", "old", "10.0.0.1")
    nodes.expect_absence(before)
    assert nodes.expected_absent([before]) == {"n1"}
    assert nodes.expected_absent([manager("n1", "new", "10.0.0.1")]) == set()
    assert nodes.expected_absent([before]) == set()  # it has returned once
    nodes.expect_absence(before)
    assert nodes.expected_absent([]) == set()  # it was removed


@in_virtual_time
async def test_a_permitted_absence_counts_for_a_while_only() -> None:
    nodes, before = NodeList("unix:///nowhere"), manager("n1", "a", "10.0.0.1")
    nodes.expect_absence(before)
    await asyncio.sleep(ABSENCE_S - 1)
    assert nodes.expected_absent([before]) == {"n1"}
    await asyncio.sleep(2)
    assert nodes.expected_absent([before]) == set()


class SlowEngine:
    """Answers a request a second later, with the list of the moment at which it was made."""

    def __init__(self, listed: list[Node]) -> None:
        self.listed = listed

    async def nodes(self) -> list[Node]:
        answer = self.listed
        await asyncio.sleep(1.0)
        return answer


@in_virtual_time
async def test_a_list_that_was_requested_before_a_change_is_not_kept() -> None:
    before, after = manager("n1"), manager("n1", leads=True)
    nodes, engine = NodeList("unix:///nowhere"), SlowEngine([before])
    nodes.swarm = engine  # type: ignore[assignment]
    request = asyncio.ensure_future(nodes.recent())
    await asyncio.sleep(0.5)
    engine.listed = [after]
    nodes.invalidate()
    assert await request == [before]
    assert await nodes.recent() == [after]


def test_a_voter_is_found_by_its_address_if_its_link_differs() -> None:
    voter, other = manager("n1", "old", "10.0.0.1"), manager("n2", "b", "10.0.0.2")
    unlinked = manager("n3", "", "10.0.0.3", engine_labels={})
    listed = [voter, other, unlinked, node("n4", "", "10.0.0.4")]
    assert leaving.find_node(listed, instance("new", "10.0.0.1")) is voter
    assert leaving.find_node(listed, instance("b", "10.0.0.1")) is other  # the link has precedence over the address
    assert leaving.find_node(listed, instance("new", "10.0.0.3")) is unlinked
    assert leaving.find_node(listed, instance("new", "10.0.0.4")) is None  # it has no vote
    assert leaving.find_node(listed, instance("new")) is None
