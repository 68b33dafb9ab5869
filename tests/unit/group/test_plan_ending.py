"""What an operator destroys, as a plan: in steps, and only what a quorum does not need."""

from infrakit.group.actions import Destroy
from infrakit.group.orders import Eviction
from infrakit.group.plan import decide
from infrakit.spi.manager import Halt
from infrakit.spi.values import Health, InstanceID
from tests.worlds import member, pet, rules, verbs, view, want, with_orders


def test_an_evicted_instance_is_destroyed_unless_the_quorum_needs_it() -> None:
    eviction = {InstanceID("i-b"): Eviction(who="ann", when="noon", why="disk")}
    orders = with_orders(want(ids="a b c", quorum=True), evictions=eviction)
    assert verbs(decide(orders, view(pet("a"), pet("b"), pet("c"), pets=True))) == [("destroy", "i-b")]
    plan = decide(orders, view(pet("a", Health.UNKNOWN), pet("b"), pet("c"), pets=True))
    assert not [a for a in plan.actions if isinstance(a, Destroy)]
    assert "quorum-needs" in rules(plan)


def test_named_instances_are_destroyed_in_steps_but_unhealthy_ones_at_once() -> None:
    eviction = {InstanceID(f"i-{n}"): Eviction(who="ann", when="noon", why="disk") for n in range(1, 6)}
    orders = with_orders(want(5), evictions=eviction)
    plan = decide(orders, view(*(member(str(n)) for n in range(1, 6))))
    assert [a.instance for a in plan.actions if isinstance(a, Destroy)] == ["i-1", "i-2"]  # MaxUnhealthy
    assert [b.reason for b in plan.blocked if b.subject == "i-3"] == [
        "ann requested its destruction: disk; at most 2 at once"
    ]
    sick = [member(str(n), Health.UNHEALTHY) for n in range(1, 4)]
    plan = decide(orders, view(*sick, member("4"), member("5")))
    assert len([a for a in plan.actions if isinstance(a, Destroy)]) == 5


def test_a_group_is_destroyed_in_steps_and_member_by_member_if_it_is_a_quorum() -> None:
    order = Halt(group=None, who="ann", when="noon", why="done")
    five = [member(str(n)) for n in range(1, 6)]
    cattle = decide(with_orders(want(5), destroying=order), view(*five))
    assert verbs(cattle) == [("destroy", "i-1"), ("destroy", "i-2")]  # MaxUnhealthy
    (block,) = cattle.blocked
    assert block.reason == "the group is being destroyed by ann: done; 3 further instances later: at most 2 at once"
    next_step = view(member("1", leaving="destroying"), *five[1:])
    assert verbs(decide(with_orders(want(5), destroying=order), next_step)) == [("destroy", "i-2")]
    with_own = [member("1", leaving="destroying"), member("2", is_self=True)]
    assert decide(with_orders(want(5), destroying=order), view(*with_own)).actions == (), "our own node last"
    assert verbs(decide(with_orders(want(5), destroying=order), view(with_own[1]))) == [("destroy", "i-2")]
    quorum = with_orders(want(ids="a b", quorum=True), destroying=order)
    assert verbs(decide(quorum, view(pet("a"), pet("b"), pets=True))) == [("destroy", "i-a")]


def test_of_undeclared_pets_an_unhealthy_one_leaves_before_one_that_is_not_listed() -> None:
    gone, sick = pet("x", missing_s=60), pet("y", Health.UNHEALTHY)
    plan = decide(want(ids="a b c d e"), view(*(pet(each) for each in "abcde"), gone, sick, pets=True))
    assert verbs(plan)[0] == ("destroy", "i-y")
