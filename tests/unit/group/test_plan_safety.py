"""What a plan must not do yet: each case has one fact more, or one less, than would permit the action."""

import pytest

from infrakit.group.actions import Destroy, Plan, Provision
from infrakit.group.plan import DesiredState, decide
from infrakit.group.state.backoff import Backoff
from infrakit.group.state.creation import Phase
from infrakit.group.state.view import GroupView
from infrakit.spi.group import Updating
from infrakit.spi.manager import Halt
from infrakit.spi.values import Health, InstanceID, Slot
from tests.worlds import NEW, NOW, OLD, declared, member, pending, pet, rules, verbs, view, want, with_orders

UNHEALTHY, UNKNOWN = Health.UNHEALTHY, Health.UNKNOWN


def destroyed(plan: Plan) -> list[str]:
    return [a.subject for a in plan.actions if isinstance(a, Destroy)]


def created(plan: Plan) -> list[str]:
    return [str(a.slot) for a in plan.actions if isinstance(a, Provision)]


def quorum(*absent: str, **health: Health) -> GroupView:
    """Five voters, of which some are absent, and some not healthy: `d=UNHEALTHY`."""
    return view(*(pet(i, health.get(i, Health.HEALTHY)) for i in "abcde" if i not in absent), pets=True)


FIVE = want(ids="a b c d e", quorum=True)


# -- pets --------------------------------------------------------------------------------------------------------------


def test_no_second_bearer_is_destroyed_before_the_first_one_is_proven_healthy() -> None:
    second = pet("a", name="i-again", has_returned=True)
    for health, expected in ((UNKNOWN, []), (UNHEALTHY, []), (Health.HEALTHY, ["i-again"])):
        assert destroyed(decide(want(ids="a"), view(pet("a", health, since_s=1), second, pets=True))) == expected


# -- quorums -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "ended_s", "joins"),
    [
        ("calling", 500.0, True),
        ("created", 59.0, True),
        ("created", 61.0, False),  # BootGrace is over
        ("unknown", 59.0, True),
        ("unknown", 61.0, False),
        ("refused", 1.0, False),
    ],
)
def test_no_member_joins_a_quorum_while_the_instance_of_another_may_boot_without_being_listed(
    phase: str, ended_s: float, *, joins: bool
) -> None:
    world = quorum("d", "e")
    world.pending = {Slot("d"): pending(phase, ended_s=ended_s, instance=InstanceID("i-d"), retry_at=NOW + 100)}
    plan = decide(FIVE, world)
    assert created(plan) == ([] if joins else ["e"])
    reason = "e has no instance; members of a quorum join one at a time: d is joining"
    assert any(reason in each.reason for each in plan.blocked) == joins


def test_no_member_joins_a_quorum_together_with_one_whose_creation_is_recorded() -> None:
    world = quorum("d", "e")
    world.pending = {Slot("d"): pending("recorded")}
    assert created(decide(FIVE, world)) == ["d"]
    world.pending = {}
    assert created(decide(FIVE, world)) == ["d"]


def test_no_member_joins_a_quorum_while_another_may_still_boot() -> None:
    world = view(pet("a"), pet("b"), pet("c"), pet("d", UNKNOWN, age_s=10), pets=True)
    assert created(decide(FIVE, world)) == []
    world.members[InstanceID("i-d")].seen_at = NOW - 61  # BootGrace is over
    assert created(decide(FIVE, world)) == ["e"]


def test_no_member_of_a_quorum_is_replaced_while_another_is_being_created() -> None:
    world = quorum("e", d=UNHEALTHY)
    world.pending = {Slot("e"): pending("created", instance=InstanceID("i-e"))}
    plan = decide(FIVE, world)
    assert destroyed(plan) == []
    assert "replaced one at a time: a member is being created" in plan.blocked[-1].reason


def test_no_member_of_a_quorum_is_replaced_while_another_has_no_instance() -> None:
    world = quorum("e", d=UNHEALTHY)
    world.backoffs = {"e": Backoff(count=3, retry_at=NOW + 60, why="no capacity", version=NEW)}
    plan = decide(FIVE, world)
    assert plan.actions == ()
    assert "replaced one at a time: e has no instance" in plan.blocked[-1].reason


def test_no_member_of_a_quorum_is_destroyed_while_a_call_of_the_previous_leader_may_take_effect() -> None:
    world = quorum(d=UNHEALTHY)
    world.inherited = {InstanceID("i-of-no-listing"): NOW + 50}
    plan = decide(FIVE, world)
    assert plan.actions == ()
    assert "the previous leader was destroying i-of-no-listing" in plan.blocked[0].reason
    assert plan.next_check == NOW + 50
    world.inherited = {}
    assert destroyed(decide(FIVE, world)) == ["i-d"]


# -- the circuit breaker -----------------------------------------------------------------------------------------------


def test_no_undeclared_pet_is_removed_while_too_many_are_unhealthy() -> None:
    sick = [pet(i, UNHEALTHY, since_s=1) for i in "abc"]
    plan = decide(want(ids="a b c d e"), view(*sick, pet("d"), pet("e"), pet("x"), pets=True))
    assert plan.actions == ()
    assert "1 undeclared instance not removed" in plan.blocked[0].reason


def test_members_that_stand_in_do_not_hide_how_many_of_a_quorum_are_unhealthy() -> None:
    sick = [pet(i, UNHEALTHY, since_s=100) for i in "ad"]
    plan = decide(want(ids="a", quorum=True), view(*sick, pet("b"), pet("c"), pets=True))
    assert plan.actions == ()
    assert any("2 of 4 members are not proven healthy, and MaxUnhealthy is 1" in each.reason for each in plan.blocked)


def test_a_second_bearer_does_not_hide_how_many_of_a_quorum_are_unhealthy() -> None:
    again = pet("d", name="i-again", has_returned=True)
    sick = [pet(i, UNHEALTHY, since_s=100) for i in "cd"]
    plan = decide(want(ids="a b c d", quorum=True), view(pet("a"), pet("b"), *sick, again, pets=True))
    assert plan.actions == ()
    assert "max-unhealthy" in rules(plan)


def test_no_unhealthy_member_is_updated_while_too_many_are_unhealthy() -> None:
    sick = [member(str(n), UNHEALTHY, version=OLD, since_s=1) for n in (1, 2, 3)]
    plan = decide(want(5), view(*sick, member("4", version=OLD), member("5", version=OLD)))
    assert plan.actions == ()
    assert "5 instances not updated" in plan.blocked[0].reason


def test_unhealthy_members_are_updated_within_max_unavailable() -> None:
    sick = [member(str(n), UNHEALTHY, version=OLD, since_s=1) for n in (1, 2, 3)]
    others = [member(str(n), version=OLD) for n in range(4, 11)]
    assert destroyed(decide(want(10), view(*sick, *others))) == ["i-1"]
    assert destroyed(decide(want(10, updating=Updating(max_unavailable=2)), view(*sick, *others))) == ["i-1", "i-2"]


# -- canaries ----------------------------------------------------------------------------------------------------------


def canary(world: GroupView) -> Plan:
    """The plan for three members, of which one canary bakes before the others are updated."""
    updating = Updating(canary=1, bake_time="60s", settle="10s", max_unavailable=3)
    base = want(3, updating=updating)
    proven = declared(3, updating=updating, version=OLD)
    return decide(DesiredState(group=base.group, proven=proven, tokens=True), world)


def test_a_canary_that_is_being_created_takes_the_place_of_one() -> None:
    world = view(member("2", version=OLD), member("3", version=OLD))
    world.pending = {Slot("1"): pending("calling")}
    plan = canary(world)
    assert plan.actions == ()
    assert rules(plan) == {"canary"}


def test_an_unhealthy_canary_has_not_baked() -> None:
    sick = member("1", UNHEALTHY, since_s=1)
    assert destroyed(canary(view(sick, member("2", version=OLD), member("3", version=OLD)))) == []
    healthy = member("1", since_s=61)
    assert destroyed(canary(view(healthy, member("2", version=OLD), member("3", version=OLD)))) == ["i-2", "i-3"]


# -- intents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [True, False])
def test_a_refusal_does_not_prove_that_an_earlier_call_created_nothing(*, tokens: bool) -> None:
    world = view(pets=True, lag_s=30)
    creation = pending("unknown", retry_at=NOW + 9, refused=True)
    world.pending = {Slot("a"): creation}
    assert decide(want(ids="a", tokens=tokens), world).actions == ()
    creation.presumed_absent = True
    assert verbs(decide(want(ids="a", tokens=tokens), world)) == [("settle", "a")]


@pytest.mark.parametrize("phase", [Phase.UNKNOWN, Phase.CREATED])
def test_a_creation_that_may_have_had_an_effect_is_not_given_up_because_it_is_no_longer_needed(phase: Phase) -> None:
    world = view(member("1"), lag_s=30)
    world.pending = {Slot("2"): pending(phase)}
    plan = decide(want(1), world)
    assert plan.actions == ()
    assert "2 is no longer needed, but may have been created" in plan.blocked[0].reason
    world.pending[Slot("2")].presumed_absent = True
    assert verbs(decide(want(1), world)) == [("settle", "2")]


# -- the destruction of a group ----------------------------------------------------------------------------------------

ENDING = with_orders(want(5), destroying=Halt(group=None, who="ann", when="noon", why="done"))


def test_a_halt_applies_to_the_destruction_of_the_group_too() -> None:
    halted = with_orders(ENDING, halt=Halt(group=None, who="bob", when="noon", why="the wrong one"))
    plan = decide(halted, view(member("1")))
    assert plan.actions == ()
    assert rules(plan) == {"halt"}


def test_our_own_node_is_destroyed_after_all_others() -> None:
    assert verbs(decide(ENDING, view(member("1", is_self=True), member("2")))) == [("destroy", "i-2")]
    assert decide(ENDING, view(member("1", is_self=True), member("2", leaving="destroyed"))).actions == ()
    assert verbs(decide(ENDING, view(member("1", is_self=True)))) == [("destroy", "i-1")]


def test_the_creations_of_a_group_that_is_destroyed_are_resolved_first() -> None:
    world = view(lag_s=30)
    world.pending = {
        Slot("1"): pending("recorded"),
        Slot("2"): pending("calling"),
        Slot("3"): pending("unknown"),
        Slot("4"): pending("refused"),
    }
    plan = decide(ENDING, world)
    assert verbs(plan) == [("settle", "1"), ("cancel", "2"), ("settle", "4")]
    assert "3 is no longer needed, but may have been created" in plan.blocked[0].reason


# -- labels ------------------------------------------------------------------------------------------------------------


def test_members_are_labelled_after_all_else_is_done() -> None:
    relabelled = member("1", version=OLD)
    relabelled.listed_hash = NEW  # nothing that it is made from has changed
    assert verbs(decide(want(2), view(relabelled, member("2")))) == [("label", "i-1")]
    assert decide(want(2), view(relabelled, member("2"), member("3", leaving="destroyed"))).actions == ()
    world = view(relabelled, lag_s=30)
    world.pending = {Slot("2"): pending("created", instance=InstanceID("i-2"))}
    assert decide(want(2), world).actions == ()
