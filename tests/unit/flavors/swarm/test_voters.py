"""The voters of a Swarm: every manager of its node list, with the instance that it is."""

from infrakit.clients.swarm_values import Manager
from infrakit.flavors.swarm import quorum
from tests.unit.flavors.swarm.values import instance, manager, node


def test_every_manager_is_a_voter_and_no_worker_is() -> None:
    nodes = [
        manager("n1", "la", "a", leads=True),
        manager("n2", "lb", "b", able=False),
        manager("n3", "alien", "x", manager=Manager(addr="x:2377", leader=False, reachability="unknown")),
        node("n4", "lc", "c"),
        node("n5", "ld", "d", role="manager"),  # its promotion is not complete: it has no vote yet
    ]
    instances = [instance("la", "a"), instance("lb", "b"), instance("lc", "c"), instance("ld", "d")]
    found = {each.id: each for each in quorum.voters(nodes, instances)}
    assert set(found) == {"n1", "n2", "n3"}
    assert [found[each].healthy for each in ("n1", "n2", "n3")] == [True, False, None]
    assert [found[each].instances for each in ("n1", "n2", "n3")] == [("i-la",), ("i-lb",), ()]
    assert (found["n1"].name, found["n1"].address) == ("a", "a:2377")


def test_a_manager_without_the_link_of_an_instance_is_found_by_its_logical_id() -> None:
    """Its instance may have been created by hand, or has replaced the one that the node was linked to."""
    (found,) = quorum.voters([manager("n1", "old", "a")], [instance("la", "a"), instance("lb", "b")])
    assert found.instances == ("i-la",)
