"""Instances of other clusters in a listing and in a plan: they are no members, and keep their logical IDs."""

from collections.abc import Mapping

import pytest

from infrakit.group import listing
from infrakit.group.actions import ChangeMembership, GroupPhase, Plan, Provision
from infrakit.group.forecast import forecast
from infrakit.group.plan import decide
from infrakit.spi import token, values
from infrakit.spi.manager import Halt
from infrakit.spi.values import Description, InstanceID, LogicalID, Slot, State
from tests.worlds import member, pending, pet, view, want, with_orders


def described(name: str, owner: str | None, logical_id: str = "", state: State = State.RUNNING) -> Description:
    tags = {values.TAG_GROUP: "g"} | ({values.TAG_TOKEN: owner} if owner is not None else {})
    return Description(id=InstanceID(name), tags=tags, logical_id=LogicalID(logical_id) or None, state=state)


def blocked(plan: Plan, rule: str) -> Mapping[str, str]:
    return {each.subject: f"{each.reason}; {each.remedy}" for each in plan.blocked if each.rule == rule}


def created(plan: Plan) -> list[str]:
    return [each.slot for each in plan.actions if isinstance(each, Provision)]


@pytest.mark.parametrize(
    ("owner", "cluster"),
    [
        (None, ""),
        ("", ""),
        ("by hand", ""),
        ("bootstrap/g/a/1f", ""),
        ("bootstrap-1f/g/a/1", "bootstrap-1f"),
        ("c1/g/a/7", "c1"),
        ("c1/g/a/b/7", "c1"),  # a logical ID with a slash
        ("/g/a/7", ""),
    ],
)
def test_the_cluster_of_an_instance_is_the_first_part_of_its_token(owner: str | None, cluster: str) -> None:
    assert token.cluster_of(described("i-1", owner).tags) == cluster
    assert token.cluster_of(None) == ""


def test_a_listing_is_split_by_owner() -> None:
    ours, restored, by_hand = described("i-1", "c1/g/1/7"), described("i-2", "c0/g/2/7"), described("i-3", None)
    other, ended = described("i-4", "c2/g/1/7"), described("i-5", "c2/g/2/7", state=State.TERMINATED)
    everything = [ours, other, restored, ended, by_hand]
    others = listing.foreign(everything, {"c0", "c1"})
    assert list(others) == [other]
    assert list(listing.without(everything, others)) == [ours, restored, ended, by_hand]
    assert listing.foreign(everything, None) == ()
    assert listing.without(everything, ()) is everything


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING, State.STOPPING, State.FINISHED, State.UNSPECIFIED])
@pytest.mark.parametrize("quorum", [False, True])
def test_no_second_instance_for_a_logical_id_of_another_cluster(quorum: bool, state: State, tagged: bool) -> None:
    other = described("i-9", "c2/g/b/7", "" if tagged else "b", state)
    if tagged:
        assert other.tags is not None
        other.tags[values.TAG_LOGICAL_ID] = "b"
    plan = decide(want(ids="a b c", quorum=quorum), view(pet("a"), pets=True), [other])
    assert "b" not in created(plan)
    assert "c" in created(plan)  # it does not wait for the one that cannot be created
    why = blocked(plan, "one-per-logical-id")["b"]
    assert "i-9" in why
    assert "infrakit adopt c2 " in why
    assert plan.phase is not GroupPhase.CONVERGED


@pytest.mark.parametrize("phase", ["recorded", "unknown"])
def test_a_recorded_creation_is_not_requested_while_another_cluster_has_the_logical_id(phase: str) -> None:
    world = view(pet("a"), pets=True)
    world.pending = {Slot("b"): pending(phase)}
    assert created(decide(want(ids="a b"), world)) == ["b"]
    plan = decide(want(ids="a b"), world, [described("i-9", "c2/g/b/7", "b")])
    assert created(plan) == []
    assert "infrakit adopt c2 " in blocked(plan, "one-per-logical-id")["b"]


def test_instances_of_other_clusters_do_not_count() -> None:
    others = [described(f"i-{number}", f"c{number % 2}/g/{number}/7") for number in range(40)]
    plan = decide(want(2), view(member("1"), member("2")), others)
    assert plan.phase is GroupPhase.CONVERGED
    assert plan.actions == ()
    assert [each.key for each in plan.blocked] == ["c0", "c1"]
    assert all(each.refused and "..." in each.reason for each in plan.blocked)
    assert decide(want(3), view(member("1"), member("2")), others).actions[0].subject == "3"


def test_they_are_explained_while_halted_and_in_a_forecast() -> None:
    others = [described("i-9", "c2/g/a/7", "a")]
    halted = with_orders(want(ids="a b"), halt=Halt(who="ann", when="2026-01-01T00:00:00Z", why="x"))
    assert blocked(decide(halted, view(pets=True), others), "another-cluster")
    actions, last = forecast(want(ids="a b"), view(pets=True), others)
    assert [each.subject for each in actions if not isinstance(each, ChangeMembership)] == ["b"]
    assert blocked(last, "one-per-logical-id").keys() == {"a"}
