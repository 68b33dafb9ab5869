"""Plans in the situations that operators know: the actions, the rules, and the reasons."""

from typing import Any

import msgspec
import pytest

from infrakit.group.actions import Action, Cancel, Label, Plan, Provision, Settle, StopRollout
from infrakit.group.orders import RolloutStop
from infrakit.group.plan import decide
from infrakit.group.state.backoff import Backoff, replacement_key
from infrakit.spi.group import Healing, OnFailure, Updating
from infrakit.spi.manager import Halt
from infrakit.spi.values import BOOTSTRAP, Attachment, Health, InstanceID, LogicalID, Slot, State
from tests.worlds import NEW, NOW, OLD, member, pending, pet, rules, verbs, view, want, with_orders

UNHEALTHY = Health.UNHEALTHY


def only(plan: Plan) -> Action:
    assert len(plan.actions) == 1, plan
    return plan.actions[0]


# -- cattle ---------------------------------------------------------------------------------------------------------


def test_missing_cattle_are_created_in_the_lowest_free_slots() -> None:
    plan = decide(want(4), view(member("2")))
    assert verbs(plan) == [("create", "1"), ("create", "3"), ("create", "4")]


def test_surplus_goes_unhealthy_first_then_out_of_date_then_newest() -> None:
    world = [
        member("1", age_s=900),
        member("2", age_s=100),
        member("3", version=OLD),
        member("4", UNHEALTHY),
        member("5"),
    ]
    order = []
    for size in (4, 3, 2, 1):
        removed = next(a for a in decide(want(size), view(*world)).actions if a.rule == "surplus")
        order.append(removed.subject)
        world = [m for m in world if m.id != removed.subject]
    assert order[:3] == ["i-4", "i-3", "i-2"]


def test_an_undeclared_instance_that_is_shutting_down_is_waited_for_with_a_reason() -> None:
    stopping = member("1", state=State.STOPPING)
    (block,) = decide(want(0), view(stopping)).blocked
    assert (block.subject, block.rule) == (stopping.id, "shutting-down")
    assert "waiting for its termination" in block.reason


def test_the_own_node_is_the_last_surplus_member_to_be_destroyed() -> None:
    plan = decide(want(1), view(member("1", is_self=True, age_s=1), member("2")))
    assert verbs(plan) == [("destroy", "i-2")]


def test_a_leaving_member_still_counts_toward_the_declared_size() -> None:
    plan = decide(want(2), view(member("1", leaving="destroyed"), member("2")))
    assert plan.actions == ()
    assert rules(plan) == {"never-more-than-declared"}


def test_scaling_down_cancels_creations_before_it_destroys_instances() -> None:
    world = view(member("1"))
    world.pending = {Slot("2"): pending("calling"), Slot("3"): pending("recorded"), Slot("4"): pending("calling")}
    plan = decide(want(1), world)
    assert [type(a) for a in plan.actions] == [Cancel, Settle, Cancel]


def test_no_second_creation_is_requested_if_the_provider_lists_nothing() -> None:
    world = view(lag_s=5)
    world.pending = {Slot(str(n)): pending("created", ended_s=900, instance=InstanceID(f"i-{n}")) for n in (1, 2, 3)}
    plan = decide(want(3), world)
    assert plan.actions == ()
    assert all(h.refused for h in plan.blocked)
    assert rules(plan) == {"one-intent"}


def test_an_intent_whose_instance_is_listed_counts_once() -> None:
    world = view(member("1"), member("2"))
    world.pending = {Slot(n): pending("created", instance=InstanceID(f"i-{n}")) for n in "12"}
    assert verbs(decide(want(2), world)) == [("settle", "1"), ("settle", "2")]
    assert verbs(decide(want(3), world))[2:] == [("create", "3")]


def test_a_creation_with_a_lost_reply_is_retried_with_the_same_token() -> None:
    world = view()
    world.pending = {Slot("1"): pending("unknown", uncertain=True)}
    retried = only(decide(want(1), world))
    assert isinstance(retried, Provision)
    assert retried.token == "t"


def test_without_tokens_a_creation_with_a_lost_reply_is_presumed_absent_only_once() -> None:
    world = view(lag_s=10)
    world.pending = {Slot("1"): pending("unknown", uncertain=True)}
    assert decide(want(1, tokens=False), world).actions == ()
    world.pending[Slot("1")].presumed_absent = True
    assert verbs(decide(want(1, tokens=False), world)) == [("settle", "1")]
    world.absences = {Slot("1"): 1}
    plan = decide(want(1, tokens=False), world)
    assert plan.actions == ()
    assert plan.blocked[0].refused


def test_a_slot_that_keeps_failing_is_retried_after_its_back_off() -> None:
    world = view()
    world.backoffs = {"1": Backoff(count=3, retry_at=NOW + 20, why="no capacity", version=NEW)}
    plan = decide(want(1), world)
    assert plan.actions == ()
    assert plan.next_check == NOW + 20
    assert "3 times (no capacity)" in plan.blocked[0].reason


def test_a_group_of_size_zero_destroys_its_members_and_converges() -> None:
    assert verbs(decide(want(0), view(member("1")))) == [("destroy", "i-1")]
    assert decide(want(0), view()).converged


# -- pets -----------------------------------------------------------------------------------------------------------


def test_a_missing_pet_is_created_with_its_logical_id() -> None:
    created = only(decide(want(ids="a b"), view(pet("a"), pets=True)))
    assert isinstance(created, Provision)
    assert (created.slot, created.logical_id, created.sequence) == ("b", "b", 2)


@pytest.mark.parametrize("how", [{"missing_s": 5.0}, {"leaving": "destroyed"}, {"leaving": "draining"}])
def test_no_replacement_is_created_while_the_instance_may_still_run(how: dict[str, Any]) -> None:
    plan = decide(want(ids="a"), view(pet("a", **how), pets=True))
    assert not [a for a in plan.actions if isinstance(a, Provision)]


def test_an_undeclared_logical_id_is_retired() -> None:
    removed = only(decide(want(ids="a"), view(pet("a"), pet("z"), pets=True)))
    assert removed.subject == "i-z"


def test_members_join_a_quorum_one_at_a_time_while_it_has_a_majority() -> None:
    world = view(pet("a"), pet("b"), pet("c"), pets=True)
    plan = decide(want(ids="a b c d e", quorum=True), world)
    assert verbs(plan) == [("create", "d")]
    assert rules(plan) == {"quorum-join"}


def test_all_members_of_a_new_or_lost_quorum_are_created_at_once() -> None:
    assert len(decide(want(ids="a b c", quorum=True), view(pets=True)).actions) == 3
    assert len(decide(want(ids="a b c d e", quorum=True), view(pet("a"), pet("b"), pets=True)).actions) == 3


def test_members_leave_a_quorum_one_at_a_time_and_only_when_all_are_healthy() -> None:
    all_healthy = view(pet("a"), pet("y"), pet("z"), pets=True)
    assert verbs(decide(want(ids="a", quorum=True), all_healthy)) == [("destroy", "i-y")]
    one_unknown = view(pet("a", Health.UNKNOWN), pet("y"), pet("z"), pets=True)
    assert decide(want(ids="a", quorum=True), one_unknown).actions == ()


def test_of_two_instances_with_one_logical_id_the_one_that_was_never_terminated_is_kept() -> None:
    back = pet("a", name="i-1", age_s=900, has_returned=True)
    plan = decide(want(ids="a"), view(back, pet("a", name="i-2", age_s=50), pets=True))
    assert verbs(plan) == [("destroy", "i-1")]


@pytest.mark.parametrize("returned", [False, True])
@pytest.mark.parametrize("health", [Health.HEALTHY, Health.UNKNOWN])
def test_without_a_fact_about_two_instances_with_one_logical_id_none_is_destroyed(
    health: Health, *, returned: bool
) -> None:
    both = [pet("a", health, name=name, has_returned=returned) for name in ("i-1", "i-2")]
    plan = decide(want(ids="a"), view(*both, pets=True))
    assert plan.actions == ()
    assert "one-per-logical-id" in rules(plan)


def test_of_two_instances_with_one_logical_id_the_one_that_holds_the_volume_is_kept() -> None:
    volume = Attachment(id="vol-a", type="volume")
    world = view(pet("a", name="i-1", age_s=900), pet("a", name="i-2", age_s=50, has_returned=True), pets=True)
    world.attach({LogicalID("a"): (volume,)}, NEW)
    for each, held in zip(world.members.values(), ((), (volume,)), strict=True):
        each.read(msgspec.structs.replace(each.description, attachments=held), declared=())
    assert verbs(decide(want(ids="a"), world)) == [("destroy", "i-1")]
    for each in world.members.values():
        each.read(msgspec.structs.replace(each.description, attachments=(volume,)), declared=())
    assert decide(want(ids="a"), world).actions == ()


def test_a_missing_member_is_not_surplus() -> None:
    """It is unknown, not unhealthy: perhaps it has terminated, and the others are just enough."""
    world = view(member("1"), member("2"), member("3", missing_s=5), member("4"))
    plan = decide(want(3), world)
    assert plan.actions == ()
    assert "unknown-is-not-acted-on" in rules(plan)
    assert [verb for verb, _ in verbs(decide(want(2), world))] == ["destroy"]
    assert ("destroy", "i-3") not in verbs(decide(want(2), world))


# -- healing --------------------------------------------------------------------------------------------------------


def test_unhealthy_members_are_replaced_after_unhealthy_after() -> None:
    early = decide(want(3), view(member("1", UNHEALTHY, since_s=29), member("2"), member("3")))
    assert early.actions == ()
    assert early.next_check == NOW + 1
    late = decide(want(3), view(member("1", UNHEALTHY, since_s=30), member("2"), member("3")))
    assert verbs(late) == [("destroy", "i-1")]


def test_unhealthy_members_are_not_replaced_within_boot_grace() -> None:
    plan = decide(want(2), view(member("1", UNHEALTHY, age_s=59), member("2")))
    assert plan.actions == ()
    assert plan.next_check == NOW + 1


def test_unhealthy_verdicts_within_boot_grace_do_not_count() -> None:
    """A boot of 65 s with a grace of 60 s is not destroyed: UnhealthyAfter begins when the grace ends."""
    early = decide(want(2), view(member("1", UNHEALTHY, age_s=65), member("2")))
    assert early.actions == ()
    assert early.next_check == NOW + 25
    assert verbs(decide(want(2), view(member("1", UNHEALTHY, age_s=90), member("2")))) == [("destroy", "i-1")]


def test_boot_grace_counts_from_when_this_controller_first_saw_the_instance() -> None:
    seen = view(member("1", UNHEALTHY, age_s=5000, seen_s=89), member("2"))
    assert decide(want(2), seen).actions == ()
    assert decide(want(2), seen).next_check == NOW + 1


def test_an_instance_that_has_proven_its_start_has_no_boot_grace() -> None:
    seen = view(member("1", UNHEALTHY, seen_s=59, since_s=30), member("2"), member("3"))
    assert decide(want(3), seen).actions == ()
    seen.members[InstanceID("i-1")].was_stable = True
    assert verbs(decide(want(3), seen)) == [("destroy", "i-1")]


def test_unknown_health_causes_no_action() -> None:
    assert decide(want(3), view(*(member(str(n), Health.UNKNOWN) for n in (1, 2, 3)))).actions == ()


def test_nothing_is_destroyed_when_more_than_max_unhealthy_members_are_unhealthy() -> None:
    plan = decide(want(5), view(*(member(str(n), UNHEALTHY) for n in (1, 2, 3)), member("4"), member("5")))
    assert plan.actions == ()
    assert rules(plan) == {"max-unhealthy"}
    assert "--despite-unhealthy" in plan.blocked[0].remedy


def test_max_unhealthy_also_blocks_rolling_updates_and_scaling_down() -> None:
    unhealthy = [member(str(n), UNHEALTHY) for n in (1, 2, 3)]
    assert decide(want(4), view(*unhealthy, member("4", version=OLD), member("5"))).actions == ()


def test_an_operator_can_override_max_unhealthy_for_named_instances() -> None:
    base = with_orders(want(5), despite_unhealthy=(InstanceID("i-2"),))
    plan = decide(base, view(*(member(str(n), UNHEALTHY) for n in (1, 2, 3)), member("4"), member("5")))
    assert verbs(plan) == [("destroy", "i-2")]


def test_a_quorum_of_three_heals_one_and_refuses_two() -> None:
    three = want(ids="a b c", quorum=True)
    assert verbs(decide(three, view(pet("a", UNHEALTHY), pet("b"), pet("c"), pets=True))) == [("destroy", "i-a")]
    plan = decide(three, view(pet("a", UNHEALTHY), pet("b", UNHEALTHY), pet("c"), pets=True))
    assert plan.actions == ()
    assert "MaxUnhealthy is 1" in plan.blocked[0].reason


def test_a_missing_member_counts_as_lost_in_a_quorum() -> None:
    plan = decide(want(ids="a b c", quorum=True), view(pet("a", UNHEALTHY), pet("b"), pets=True))
    assert verbs(plan) == [("create", "c")]


def test_a_large_quorum_is_healed_one_at_a_time() -> None:
    world = view(pet("a", UNHEALTHY), pet("b", UNHEALTHY), pet("c"), pet("d"), pet("e"), pets=True)
    plan = decide(want(ids="a b c d e", quorum=True), world)
    assert verbs(plan) == [("destroy", "i-a")]
    assert rules(plan) == {"quorum-heal"}


def test_max_unhealthy_may_be_a_count_or_a_percentage() -> None:
    world = view(member("1", UNHEALTHY), member("2", UNHEALTHY), member("3"), member("4"))
    assert decide(want(4, healing=Healing(max_unhealthy=1)), world).actions == ()
    assert len(decide(want(4, healing=Healing(max_unhealthy="50%")), world).actions) == 2


def test_failures_of_another_version_delay_no_creation() -> None:
    for world, wanted in ((view(member("2")), want(2)), (view(pet("b"), pets=True), want(ids="a b"))):
        slot = "a" if world.pets else "1"
        world.backoffs = {slot: Backoff(count=7, retry_at=NOW + 117, why="it terminated", version=OLD)}
        assert verbs(decide(wanted, world)) == [("create", slot)]


def test_replacements_that_did_not_help_delay_the_next_one() -> None:
    world = view(member("1", UNHEALTHY), member("2"), member("3"))
    world.backoffs = {replacement_key("1"): Backoff(count=3, retry_at=NOW + 20, why="unhealthy", version=NEW)}
    plan = decide(want(3), world)
    assert plan.actions == ()
    assert "replacing slot 1 has failed 3 times (unhealthy); next retry in 20s" in plan.blocked[0].reason
    del world.members[InstanceID("i-1")]
    assert verbs(decide(want(3), world)) == [("create", "1")]


# -- rolling updates ------------------------------------------------------------------------------------------------


def test_members_are_updated_one_at_a_time_by_name_and_each_must_become_healthy() -> None:
    world = [member(str(n), version=OLD) for n in (10, 9, 8)]
    first = only(decide(want(10 - 7), view(*world)))
    assert (first.subject, first.rule) == ("i-8", "out-of-date")
    assert decide(want(3), view(*world[:2], member("8", Health.UNKNOWN, age_s=1))).actions == ()


def test_a_replacement_must_settle_before_the_next_member_is_updated() -> None:
    observed = view(member("1", since_s=9), member("2", version=OLD), member("3", version=OLD))
    observed.rolling_to = NEW
    plan = decide(want(3), observed)
    assert plan.actions == ()
    assert plan.next_check == NOW + 1
    observed.members[InstanceID("i-1")].healthy_since = NOW - 10
    assert verbs(decide(want(3), observed)) == [("destroy", "i-2")]


def test_unhealthy_members_are_updated_first_and_within_max_unavailable() -> None:
    world = view(member("1", version=OLD), member("2", UNHEALTHY, version=OLD, since_s=1), member("3", version=OLD))
    assert verbs(decide(want(3), world)) == [("destroy", "i-2")]


def test_the_own_node_is_updated_last() -> None:
    world = view(member("1", version=OLD, is_self=True), member("2", version=OLD), member("3"))
    assert verbs(decide(want(3), world)) == [("destroy", "i-2")]
    assert verbs(decide(want(3), view(member("1", version=OLD, is_self=True), member("2"), member("3")))) == [
        ("destroy", "i-1")
    ]


def test_the_own_node_is_not_updated_while_another_is_shutting_down() -> None:
    stopping = member("2", version=OLD, state=State.STOPPING)
    world = view(member("1", version=OLD, is_self=True), stopping, member("3"), member("4"))
    plan = decide(want(3, updating=Updating(max_unavailable=2)), world)
    assert verbs(plan) == []
    assert "own-node-last" in rules(plan)
    replaced = view(member("1", version=OLD, is_self=True), member("3"), member("4"))
    assert verbs(decide(want(3, updating=Updating(max_unavailable=2)), replaced))[-1] == ("destroy", "i-1")


def test_the_own_node_is_updated_after_the_last_other_even_if_two_may_be_unavailable() -> None:
    world = view(member("1", version=OLD, is_self=True), member("2", version=OLD), member("3"), member("4"))
    plan = decide(want(4, updating=Updating(max_unavailable=2)), world)
    assert verbs(plan) == [("destroy", "i-2")]
    assert "own-node-last" in rules(plan)


def test_a_surge_creates_first_and_destroys_when_the_new_instance_is_healthy() -> None:
    policy = Updating(max_unavailable=0, max_surge=1)
    old = [member(str(n), version=OLD) for n in (1, 2)]
    assert verbs(decide(want(2, updating=policy), view(*old))) == [("create", "3")]
    assert decide(want(2, updating=policy), view(*old, member("3", Health.UNKNOWN, age_s=1))).actions == ()
    assert verbs(decide(want(2, updating=policy), view(*old, member("3")))) == [("destroy", "i-1")]


def test_a_failing_version_pauses_its_rolling_update() -> None:
    observed = view(member("1", UNHEALTHY), member("2", version=OLD), member("3", version=OLD))
    observed.rolling_to = NEW
    stop = [a for a in decide(want(3), observed).actions if isinstance(a, StopRollout)]
    assert [s.rollback for s in stop] == [False]
    assert "i-1" in stop[0].reason


def test_a_failing_version_is_rolled_back_if_on_failure_is_rollback() -> None:
    observed = view(member("1", version=OLD), member("2", version=OLD))
    observed.rolling_to = NEW
    observed.backoffs = {"3": Backoff(count=3, retry_at=0, why="it died", version=NEW)}
    wanted = want(3, updating=Updating(on_failure=OnFailure.ROLLBACK))
    stop = [a for a in decide(wanted, observed).actions if isinstance(a, StopRollout)]
    assert [s.rollback for s in stop] == [True]


def test_a_paused_rolling_update_destroys_nothing_and_reports_who_paused_it() -> None:
    order = RolloutStop(hash=NEW, who="ann", when="noon", why="lunch")
    plan = decide(with_orders(want(2), roll=order), view(member("1", version=OLD), member("2")))
    assert plan.actions == ()
    assert plan.phase == "paused"
    assert "paused by ann at noon: lunch" in plan.blocked[0].reason


def test_healing_after_a_failed_rolling_update_creates_with_the_previous_version() -> None:
    order = RolloutStop(hash=NEW, failed=True, who="infrakit", when="noon", why="i-1 is unhealthy")
    stopped, world = with_orders(want(2), roll=order), view(member("1", version=OLD))
    assert [a.hash for a in decide(stopped, world).actions if isinstance(a, Provision)] == [OLD]
    for other in (
        with_orders(want(2), roll=order, restored=NEW),  # the previous version was rolled back
        with_orders(want(2, previous=""), roll=order),
        with_orders(want(2), roll=msgspec.structs.replace(order, failed=False)),
        with_orders(want(2), roll=msgspec.structs.replace(order, hash="another")),
    ):
        assert [a.hash for a in decide(other, world).actions if isinstance(a, Provision)] == [NEW]


def test_a_pause_of_another_version_has_no_effect() -> None:
    order = RolloutStop(hash="another", who="ann", when="noon", why="lunch")
    plan = decide(with_orders(want(2), roll=order), view(member("1", version=OLD), member("2")))
    assert verbs(plan) == [("destroy", "i-1")]


def test_after_an_abort_missing_members_are_created_in_the_previous_version() -> None:
    order = RolloutStop(hash=NEW, aborted=True, who="ann", when="noon", why="no")
    created = only(decide(with_orders(want(2), roll=order), view(member("1", version=OLD))))
    assert isinstance(created, Provision)
    assert created.hash == OLD


def test_a_quorum_is_not_updated_while_a_member_is_missing() -> None:
    world = view(pet("a", version=OLD), pet("b", version=OLD), pets=True)
    assert verbs(decide(want(ids="a b c", quorum=True), world)) == [("create", "c")]


def test_a_size_change_causes_no_rolling_update() -> None:
    plan = decide(want(5), view(*(member(str(n)) for n in (1, 2, 3))))
    assert {a.verb for a in plan.actions} == {"create"}


# -- commands of operators ------------------------------------------------------------------------------------------


def test_a_halt_blocks_every_action_and_reports_who_and_why() -> None:
    order = Halt(group=None, who="ann", when="noon", why="fire")
    plan = decide(with_orders(want(3), halt=order), view(member("1", UNHEALTHY)))
    assert plan.actions == ()
    assert plan.phase == "halted"
    assert "halted by ann at noon: fire" in plan.blocked[0].reason


def test_an_incomplete_observation_causes_no_action() -> None:
    observed = view()
    observed.problem = "the listing failed"
    plan = decide(want(3), observed)
    assert plan.actions == ()
    assert plan.phase == "unknown"


def test_a_bootstrap_member_is_adopted_as_up_to_date() -> None:
    plan = decide(want(ids="a"), view(pet("a", version=BOOTSTRAP), pets=True))
    labels = [a for a in plan.actions if isinstance(a, Label)]
    assert [(a.instance, a.hash) for a in labels] == [("i-a", NEW)]
    assert not plan.converged


def test_only_healthy_members_of_the_declared_version_are_converged() -> None:
    good = [pet("a"), pet("b")]
    wanted = want(ids="a b")
    assert decide(wanted, view(*good, pets=True)).converged
    not_converged = [
        [good[0], pet("b", Health.UNKNOWN)],
        [good[0], pet("b", version=OLD)],
        [good[0], pet("b", missing_s=1)],
        [good[0], pet("b", leaving="draining")],
        [*good, pet("z")],
        [good[0]],
    ]
    for world in not_converged:
        assert not decide(wanted, view(*world, pets=True)).converged
    with_intent = view(*good, pets=True)
    with_intent.pending = {Slot("z"): pending("created", instance=InstanceID("i-9"))}
    assert not decide(wanted, with_intent).converged


def test_every_blocked_action_names_its_rule() -> None:
    struct = msgspec.structs.asdict(decide(want(1), view(member("1", leaving="draining"))).blocked[0])
    assert all(struct[name] for name in ("subject", "reason", "rule"))
