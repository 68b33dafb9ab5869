"""The changes of the node list, from plain values: promotions, removals, and nodes that are only reported."""

from collections.abc import Sequence
from typing import Any

from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import link, membership, quorum
from infrakit.flavors.swarm.membership import DRAINED, Observation
from infrakit.spi.quorum import majority
from infrakit.spi.values import TAG_GROUP, TAG_TOKEN, Description, InstanceID, InstanceSpec, State
from tests.unit.flavors.swarm.values import instance, manager, node

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
LEADER = manager("na", "a", A, leads=True)
OTHER_GROUP_LEADER = manager("boss", "boss", A, leads=True, group="managers")
TRIO = [LEADER, manager("nb", "b", B), manager("nc", "c", C)]
HERE = [instance("a", A), instance("b", B), instance("c", C)]


def observed(nodes: Sequence[Node], instances: Sequence[Description] = HERE, **fields: Any) -> Observation:
    """An observation of the managers: all are declared, and inconsistent ones are overdue."""
    plain: dict[str, Any] = {
        "group": "g",
        "manager": True,
        "declared": frozenset((A, B, C)),
        "inconsistent_for_s": {each.id: 100.0 for each in nodes},
        "remove_after_s": 30.0,
    }
    return Observation(nodes=nodes, instances=instances, **(plain | fields))


def due(current: Observation) -> list[str]:
    return [each.id for each in membership.reported_changes(current) if each.due]


def notices(current: Observation) -> dict[str, str]:
    return {each.id: each.what for each in membership.reported_changes(current) if not each.due}


def workers(nodes: Sequence[Node], instances: Sequence[Description], **fields: Any) -> Observation:
    return observed(nodes, instances, manager=False, declared=frozenset(), **fields)


def test_a_converged_group_needs_no_changes() -> None:
    assert membership.reported_changes(observed(TRIO)) == []
    assert membership.reported_changes(workers([OTHER_GROUP_LEADER, node("w", "w", group="g")], [instance("w")])) == []


def test_new_managers_are_promoted_one_at_a_time() -> None:
    current = observed([LEADER, node("nb", "b", B), node("nc", "c", C)])
    assert due(current) == ["promote/nb"]
    assert list(notices(current)) == ["promote/nc"]
    joining = observed([LEADER, node("nb", "b", B, role="manager"), node("nc", "c", C)])
    assert due(joining) == []
    assert "waiting until the promotion of nb" in notices(joining)["promote/nc"]


def test_no_manager_is_added_while_another_is_unreachable() -> None:
    current = observed([LEADER, manager("nb", "b", B, able=False), node("nc", "c", C)])
    assert due(current) == []
    assert "unreachable: nb (10.0.0.2)" in notices(current)["promote/nc"]


def test_nodes_that_are_not_members_of_the_group_are_not_promoted() -> None:
    for other in (
        node("nd", "d", "10.0.0.9"),  # not declared
        node("nc", "c", C, group="other"),
        node("nc", "c", C, state="down"),
        node("nc", "x", C),  # no instance is linked to it
    ):
        there = [*HERE, instance("d", "10.0.0.9")]
        assert due(observed([*TRIO[:2], other], there, inconsistent_for_s={})) == []
    leaving = [*HERE[:2], instance("c", C, state=State.STOPPING)]
    assert due(observed([*TRIO[:2], node("nc", "c", C)], leaving)) == []


def test_a_manager_without_its_machine_is_kept() -> None:
    """Its machine is recreated with its volume, and returns as the same node."""
    assert membership.reported_changes(observed([*TRIO[:2], manager("nc", "old", C, able=False)], HERE[:2])) == []
    assert membership.reported_changes(observed([*TRIO[:2], manager("nc", "old", C, able=False)])) == []


def test_a_manager_whose_data_is_lost_is_replaced_step_by_step() -> None:
    lost, new = manager("old", "x", C, able=False), node("new", "c", C)
    current = observed([*TRIO[:2], lost, new], inconsistent_for_s={})
    assert due(current) == ["demote/old"]
    assert "until the previous manager at this address is removed" in notices(current)["promote/new"]
    voting = manager("old", "x", C, able=False, role="worker")
    assert due(observed([*TRIO[:2], voting, new])) == []
    assert due(observed([*TRIO[:2], node("old", "x", C, state="down"), new])) == ["remove/old"]
    assert due(observed([*TRIO[:2], new])) == ["promote/new"]


def test_a_previous_manager_that_is_not_down_is_not_lost() -> None:
    for state in ("ready", "unknown", "disconnected"):
        old = manager("old", "x", C, state=state)
        assert not due(observed([*TRIO[:2], old, node("new", "c", C)], inconsistent_for_s={}))


def test_a_manager_that_the_quorum_needs_is_not_demoted() -> None:
    """Two of three are unreachable: the rest has no quorum."""
    nodes = [LEADER, manager("nb", "b", B, able=False), manager("old", "x", C, able=False), node("new", "c", C)]
    current = observed(nodes)
    assert due(current) == []
    assert (
        "1 of 2 managers would be available, and the quorum needs 2 (unreachable or leaving: nb)"
        in notices(current)["demote/old"]
    )


def test_a_manager_without_a_vote_is_removed_without_a_demotion() -> None:
    """It terminated before its promotion, or a new cluster was forced: without a vote it cannot be demoted."""
    nodes = [*TRIO[:2], node("old", "x", C, role="manager", state="down"), node("new", "c", C)]
    assert due(observed(nodes)) == ["remove/old"]


def test_a_manager_that_is_down_and_no_longer_declared_is_removed() -> None:
    down = manager("nd", "d", "10.0.0.4", able=False)
    assert due(observed([*TRIO, down])) == ["demote/nd"]
    assert due(observed([*TRIO, down], inconsistent_for_s={"nd": 29.0})) == []
    assert due(observed([*TRIO, node("nd", "d", "10.0.0.4", state="down")])) == ["remove/nd"]


def test_stale_workers_are_removed_after_a_delay() -> None:
    down, alive = node("w1", "w1", state="down"), node("w2", "w2")
    here = [instance("w2")]
    assert due(workers([OTHER_GROUP_LEADER, down, alive], here)) == ["remove/w1"]
    assert due(workers([OTHER_GROUP_LEADER, down, alive], here, inconsistent_for_s={"w1": 29.0})) == []
    assert due(workers([OTHER_GROUP_LEADER, down, alive], [*here, instance("w1")])) == []  # its machine may return
    assert due(workers([OTHER_GROUP_LEADER, node("w1", "w1", state="unknown")], here)) == []
    assert due(workers([OTHER_GROUP_LEADER, node("w1", "w1", state="down", group="other")], here)) == []
    assert due(workers([OTHER_GROUP_LEADER, node("w1", "", state="down", group="")], here)) == []
    again = workers([OTHER_GROUP_LEADER, node("w2", "w2", state="down"), node("again", "w2")], here)
    assert due(again) == ["remove/w2"]  # the machine has joined again


def test_an_instance_that_is_not_listed_yet_is_identified_by_its_token() -> None:
    pending = Description(id=InstanceID(""), tags={TAG_GROUP: "g", TAG_TOKEN: "g/7"}, state=State.PENDING)
    own = link.of(pending)
    assert own == link.link(InstanceSpec(tags={TAG_TOKEN: "g/7"}))
    assert due(workers([OTHER_GROUP_LEADER, node("w1", own, state="down")], [pending])) == []
    assert due(workers([OTHER_GROUP_LEADER, node("w1", own, state="down")], [instance("w2")])) == ["remove/w1"]
    assert link.of(Description(id=InstanceID("i"))) == ""


def test_a_stale_worker_promoted_by_hand_is_left_to_the_operator() -> None:
    current = workers([OTHER_GROUP_LEADER, manager("w1", "w1", able=False)], [instance("w2")])
    assert due(current) == []
    assert "docker node demote" in notices(current)["demote/w1"]
    voting = workers([OTHER_GROUP_LEADER, manager("w1", "w1", able=False, role="worker")], [instance("w2")])
    assert due(voting) == []
    assert "waiting until its demotion is complete" in notices(voting)["remove/w1"]


def test_unmanaged_nodes_are_reported() -> None:
    current = observed([*TRIO, manager("x", group="", hostname="mine"), manager("y", "y", group="other")])
    assert due(current) == []
    assert "the manager x (mine) belongs to no group" in notices(current)["unmanaged/x"]
    assert "belongs to the group other" in notices(current)["unmanaged/y"]
    working = observed([*TRIO, node("z", "z", "10.0.0.9")])
    assert "its provider lists no instance" in notices(working)["unknown/z"]
    assert notices(observed([*TRIO, node("z", "z", "10.0.0.9")], inconsistent_for_s={})) == {}
    twins = workers([node("one", "w"), node("two", "w")], [instance("w")])
    assert "the same instance: one, two" in notices(twins)["duplicate/w"]


def test_an_even_number_of_managers_is_advised_against() -> None:
    current = observed(TRIO[:2], HERE[:2], declared=frozenset((A, B)))
    assert "2 managers tolerate the loss of 0, no more than 1 do" in notices(current)["advice/even"]


def test_a_drain_whose_destruction_was_cancelled_is_reverted() -> None:
    drained = node("w", "w", availability="drain", labels={DRAINED: "true"})
    assert membership.inconsistent(workers([drained], [instance("w")])) == {"w"}
    assert due(workers([drained], [instance("w")])) == ["activate/w"]
    assert due(workers([drained], [instance("w")], inconsistent_for_s={})) == []
    assert due(workers([drained], [instance("w", state=State.STOPPING)])) == []
    busy = workers([drained], [instance("w")], leaving={"i-w"})
    assert due(busy) == []
    assert membership.inconsistent(busy) == set()
    by_hand = node("w", "w", availability="drain")
    assert due(workers([by_hand], [instance("w")])) == []


def test_the_arithmetic_of_the_quorum() -> None:
    assert [majority(count) for count in (1, 2, 3, 4, 5, 6, 7)] == [1, 2, 2, 3, 3, 4, 4]
    five = [*TRIO, manager("nd", "d"), manager("ne", "e", able=False)]
    assert quorum.while_absent(five, LEADER).is_enough  # three of five
    assert quorum.after_removal(five, LEADER).is_enough  # three of four
    four = [*TRIO, manager("nd", "d", able=False)]
    assert not quorum.while_absent(four, LEADER).is_enough  # two of four
    assert quorum.after_removal(four, LEADER).is_enough  # two of three
    assert not quorum.while_absent(TRIO[:2], LEADER).is_enough
    assert not quorum.while_absent(TRIO[:1], LEADER).is_enough


def test_nodes_that_may_be_absent_do_not_count() -> None:
    four = [*TRIO, manager("nd", "d")]
    assert quorum.after_removal(four, LEADER).is_enough  # three of three
    assert quorum.after_removal(four, LEADER, leaving={"nd"}).is_enough  # two of three
    three = [*TRIO]
    assert quorum.after_removal(three, LEADER).is_enough  # two of two
    others = [each.id for each in three if each is not LEADER]
    assert not quorum.after_removal(three, LEADER, leaving=others[:1]).is_enough  # one of two
    assert not quorum.while_absent(three, LEADER, leaving=others[:1]).is_enough  # one of three
