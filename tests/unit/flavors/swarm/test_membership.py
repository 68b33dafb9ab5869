"""What the list needs, from plain values: who is let in, who is taken off, and who is only told of."""

from collections.abc import Sequence
from typing import Any

from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import link, membership, quorum
from infrakit.flavors.swarm.membership import DRAINED, Seen
from infrakit.spi.values import TAG_GROUP, TAG_TOKEN, Description, InstanceID, InstanceSpec, State
from tests.unit.flavors.swarm.values import instance, manager, node

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
LEADER = manager("na", "a", A, leads=True)
BOSS = manager("boss", "boss", A, leads=True, group="managers")  # of another group
TRIO = [LEADER, manager("nb", "b", B), manager("nc", "c", C)]
HERE = [instance("a", A), instance("b", B), instance("c", C)]


def seen(nodes: Sequence[Node], instances: Sequence[Description] = HERE, **fields: Any) -> Seen:
    """Of the managers, all of whom are declared, and odd for long."""
    plain: dict[str, Any] = {
        "group": "g",
        "manager": True,
        "declared": frozenset((A, B, C)),
        "odd_for_s": {each.id: 100.0 for each in nodes},
        "remove_after_s": 30.0,
    }
    return Seen(nodes=nodes, instances=instances, **(plain | fields))


def due(look: Seen) -> list[str]:
    return [each.id for each in membership.told(look) if each.due]


def only_told(look: Seen) -> dict[str, str]:
    return {each.id: each.what for each in membership.told(look) if not each.due}


def workers(nodes: Sequence[Node], instances: Sequence[Description], **fields: Any) -> Seen:
    return seen(nodes, instances, manager=False, declared=frozenset(), **fields)


def test_a_whole_group_needs_nothing() -> None:
    assert membership.told(seen(TRIO)) == []
    assert membership.told(workers([BOSS, node("w", "w", group="g")], [instance("w")])) == []


def test_newcomers_are_made_managers_one_at_a_time() -> None:
    look = seen([LEADER, node("nb", "b", B), node("nc", "c", C)])
    assert due(look) == ["promote/nb"]
    assert list(only_told(look)) == ["promote/nc"]
    joining = seen([LEADER, node("nb", "b", B, role="manager"), node("nc", "c", C)])
    assert due(joining) == []
    assert "joins the managers" in only_told(joining)["promote/nc"]


def test_nobody_is_added_while_another_is_silent() -> None:
    look = seen([LEADER, manager("nb", "b", B, able=False), node("nc", "c", C)])
    assert due(look) == []
    assert "nb (10.0.0.2) is not" in only_told(look)["promote/nc"]


def test_who_is_no_member_of_the_group_is_no_newcomer() -> None:
    for stranger in (
        node("nd", "d", "10.0.0.9"),  # not declared
        node("nc", "c", C, group="other"),
        node("nc", "c", C, state="down"),
        node("nc", "x", C),  # no instance is linked to it
    ):
        there = [*HERE, instance("d", "10.0.0.9")]
        assert due(seen([*TRIO[:2], stranger], there, odd_for_s={})) == []
    leaving = [*HERE[:2], instance("c", C, state=State.STOPPING)]
    assert due(seen([*TRIO[:2], node("nc", "c", C)], leaving)) == []


def test_a_manager_without_its_machine_waits_for_it() -> None:
    """It comes back with its volume, as the same node."""
    assert membership.told(seen([*TRIO[:2], manager("nc", "old", C, able=False)], HERE[:2])) == []
    assert membership.told(seen([*TRIO[:2], manager("nc", "old", C, able=False)])) == []


def test_a_manager_whose_data_is_lost_is_replaced_step_by_step() -> None:
    lost, new = manager("old", "x", C, able=False), node("new", "c", C)
    look = seen([*TRIO[:2], lost, new], odd_for_s={})
    assert due(look) == ["demote/old"]
    assert "first its predecessor" in only_told(look)["promote/new"]
    voting = manager("old", "x", C, able=False, role="worker")
    assert due(seen([*TRIO[:2], voting, new])) == []
    assert due(seen([*TRIO[:2], node("old", "x", C, state="down"), new])) == ["remove/old"]
    assert due(seen([*TRIO[:2], new])) == ["promote/new"]


def test_a_predecessor_that_is_not_down_is_not_lost() -> None:
    for state in ("ready", "unknown", "disconnected"):
        old = manager("old", "x", C, state=state)
        assert not due(seen([*TRIO[:2], old, node("new", "c", C)], odd_for_s={}))


def test_nobody_is_demoted_whom_the_quorum_needs() -> None:
    """Two of three are silent: what is left could not even agree."""
    nodes = [LEADER, manager("nb", "b", B, able=False), manager("old", "x", C, able=False), node("new", "c", C)]
    look = seen(nodes)
    assert due(look) == []
    assert (
        "1 of 2 managers would work, and the quorum needs 2 (not reachable, or let go: nb)"
        in only_told(look)["demote/old"]
    )


def test_one_without_a_vote_is_removed_as_it_is() -> None:
    """It died before it was let in, or a new cluster was forced: the Swarm demotes nobody who is no member."""
    nodes = [*TRIO[:2], node("old", "x", C, role="manager", state="down"), node("new", "c", C)]
    assert due(seen(nodes)) == ["remove/old"]


def test_a_manager_that_is_not_declared_any_more_and_dead_leaves_the_list() -> None:
    gone = manager("nd", "d", "10.0.0.4", able=False)
    assert due(seen([*TRIO, gone])) == ["demote/nd"]
    assert due(seen([*TRIO, gone], odd_for_s={"nd": 29.0})) == []
    assert due(seen([*TRIO, node("nd", "d", "10.0.0.4", state="down")])) == ["remove/nd"]


def test_ghosts_of_workers_leave_the_list_after_a_grace() -> None:
    dead, alive = node("w1", "w1", state="down"), node("w2", "w2")
    here = [instance("w2")]
    assert due(workers([BOSS, dead, alive], here)) == ["remove/w1"]
    assert due(workers([BOSS, dead, alive], here, odd_for_s={"w1": 29.0})) == []
    assert due(workers([BOSS, dead, alive], [*here, instance("w1")])) == []  # its machine may come back
    assert due(workers([BOSS, node("w1", "w1", state="unknown")], here)) == []
    assert due(workers([BOSS, node("w1", "w1", state="down", group="other")], here)) == []
    assert due(workers([BOSS, node("w1", "", state="down", group="")], here)) == []
    again = workers([BOSS, node("w2", "w2", state="down"), node("again", "w2")], here)
    assert due(again) == ["remove/w2"]  # the machine has joined once more


def test_an_instance_that_is_not_listed_yet_is_known_by_its_token() -> None:
    pending = Description(id=InstanceID(""), tags={TAG_GROUP: "g", TAG_TOKEN: "g/7"}, state=State.PENDING)
    own = link.of(pending)
    assert own == link.link(InstanceSpec(tags={TAG_TOKEN: "g/7"}))
    assert due(workers([BOSS, node("w1", own, state="down")], [pending])) == []
    assert due(workers([BOSS, node("w1", own, state="down")], [instance("w2")])) == ["remove/w1"]
    assert link.of(Description(id=InstanceID("i"))) == ""


def test_a_ghost_that_somebody_made_a_manager_is_left_to_people() -> None:
    look = workers([BOSS, manager("w1", "w1", able=False)], [instance("w2")])
    assert due(look) == []
    assert "docker node demote" in only_told(look)["demote/w1"]
    voting = workers([BOSS, manager("w1", "w1", able=False, role="worker")], [instance("w2")])
    assert due(voting) == []
    assert "until the others have let it go" in only_told(voting)["remove/w1"]


def test_strangers_are_told_of() -> None:
    look = seen([*TRIO, manager("x", group="", hostname="mine"), manager("y", "y", group="other")])
    assert due(look) == []
    assert "the manager x (mine) is of no group" in only_told(look)["stranger/x"]
    assert "one of the group other" in only_told(look)["stranger/y"]
    working = seen([*TRIO, node("z", "z", "10.0.0.9")])
    assert "its provider lists no instance" in only_told(working)["unknown/z"]
    assert only_told(seen([*TRIO, node("z", "z", "10.0.0.9")], odd_for_s={})) == {}
    twins = workers([node("one", "w"), node("two", "w")], [instance("w")])
    assert "the same instance: one, two" in only_told(twins)["duplicate/w"]


def test_an_even_number_is_advised_against() -> None:
    look = seen(TRIO[:2], HERE[:2], declared=frozenset((A, B)))
    assert "2 managers bear the loss of 0, as 1 do" in only_told(look)["advice/even"]


def test_a_drain_that_was_given_up_is_taken_back() -> None:
    drained = node("w", "w", availability="drain", labels={DRAINED: "true"})
    assert membership.odd(workers([drained], [instance("w")])) == {"w"}
    assert due(workers([drained], [instance("w")])) == ["activate/w"]
    assert due(workers([drained], [instance("w")], odd_for_s={})) == []
    assert due(workers([drained], [instance("w", state=State.STOPPING)])) == []
    busy = workers([drained], [instance("w")], leaving={"i-w"})
    assert due(busy) == []
    assert membership.odd(busy) == set()
    by_hand = node("w", "w", availability="drain")
    assert due(workers([by_hand], [instance("w")])) == []


def test_the_arithmetic_of_the_quorum() -> None:
    assert [quorum.needed(count) for count in (1, 2, 3, 4, 5, 6, 7)] == [1, 2, 2, 3, 3, 4, 4]
    five = [*TRIO, manager("nd", "d"), manager("ne", "e", able=False)]
    assert quorum.away(five, LEADER).is_enough  # three of five
    assert quorum.removed(five, LEADER).is_enough  # three of four
    four = [*TRIO, manager("nd", "d", able=False)]
    assert not quorum.away(four, LEADER).is_enough  # two of four
    assert quorum.removed(four, LEADER).is_enough  # two of three
    assert not quorum.away(TRIO[:2], LEADER).is_enough
    assert not quorum.away(TRIO[:1], LEADER).is_enough


def test_who_was_let_go_does_not_count() -> None:
    four = [*TRIO, manager("nd", "d")]
    assert quorum.removed(four, LEADER).is_enough  # three of three
    assert quorum.removed(four, LEADER, going={"nd"}).is_enough  # two of three
    three = [*TRIO]
    assert quorum.removed(three, LEADER).is_enough  # two of two
    others = [each.id for each in three if each is not LEADER]
    assert not quorum.removed(three, LEADER, going=others[:1]).is_enough  # one of two
    assert not quorum.away(three, LEADER, going=others[:1]).is_enough  # one of three
