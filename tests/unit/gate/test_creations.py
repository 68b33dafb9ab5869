"""How many creations the guard permits within an hour, also across leaders, versions and sizes."""

import pytest

from infrakit.gate.census import History
from infrakit.gate.creations import CREATIONS_MIN, WINDOW_S
from infrakit.gate.guard import Guard, Limits, Seen
from infrakit.spi.values import Slot
from tests.unit.gate.test_guard import Members, instance


def test_creations_within_an_hour_are_limited() -> None:
    of = Members(10, 4).guard
    limit = 2 * 10 + 10  # ten of growth: the group is new
    for number in range(limit):
        assert not of.refuse_creation(f"t-{number}", 1.0)
        assert of.creating(f"t-{number}", 1.0 + number)
    why = of.refuse_creation("more", 100.0)
    assert "30 instances were created within an hour, at most 30" in why
    assert not of.refuse_creation("t-3", 100.0)  # a retry with the token of a creation that was counted
    assert not of.creating("t-3", 100.0)
    assert of.review([], 100.0).creations == 0
    assert of.review([], 100.0).until == 1.0 + WINDOW_S
    of.not_created("t-7")
    assert not of.refuse_creation("more", 100.0)
    assert not of.refuse_creation("more", 12.0 + WINDOW_S)  # 11 are older than an hour now, and so is the growth


def test_a_new_leader_of_an_existing_group_permits_no_growth() -> None:
    of = Guard()
    of.declare(Limits(size=20, max_lost=4, version="v1"), 0.0)
    of.observe([Seen(instance(n), Slot(str(n)), None) for n in range(20)], 0.0)
    assert of.review([], 0.0).creations == 40


@pytest.mark.parametrize("fails_over", [False, True])
def test_two_versions_that_take_turns_permit_to_create_all_again_once_each(*, fails_over: bool) -> None:
    guard = Members(10, 4).guard
    for number, version in enumerate(("v2", "v1", "v2", "v1", "v2", "v3")):
        guard.declare(Limits(size=10, max_lost=4, version=version), 10.0 + number)
        if fails_over:
            history, guard = guard.history(10.0 + number), Guard()
            guard.recall(history, 10.0 + number)
    created = sum(not guard.refuse_creation(f"t/{n}", 20.0) and guard.creating(f"t/{n}", 20.0) for n in range(100))
    assert created == 2 * 10 + 10 + 2 * 10  # twice the size, the first ten, and v2 and v3
    guard.declare(Limits(size=10, max_lost=4, version="v1"), 20.0 + WINDOW_S)
    assert not guard.refuse_creation("t/another", 20.0 + WINDOW_S)


@pytest.mark.parametrize("fails_over", [False, True])
def test_sizes_that_take_turns_permit_no_more_than_the_largest(*, fails_over: bool) -> None:
    guard = Members(10, 4).guard
    for number, size in enumerate((100, 10, 100, 10, 100, 10)):
        guard.declare(Limits(size=size, max_lost=4, version="v1"), 10.0 + number)
        if fails_over:
            history, guard = guard.history(10.0 + number), Guard()
            guard.recall(history, 10.0 + number)
    created = sum(not guard.refuse_creation(f"t/{n}", 20.0) and guard.creating(f"t/{n}", 20.0) for n in range(500))
    assert created == 2 * 100 + 10 + 90  # the first ten, and the growth by ninety
    later = 20.0 + WINDOW_S
    created = sum(not guard.refuse_creation(f"u/{n}", later) and guard.creating(f"u/{n}", later) for n in range(500))
    assert created == 2 * 10


def test_what_a_previous_leader_has_recorded_and_not_requested_is_limited_too() -> None:
    of = Members(1, 1).guard
    for number in range(CREATIONS_MIN + 1):
        of.inherit(str(number), 0.0)
    assert not of.refuse_creation("3", 1.0)  # it may have been requested: the same token creates nothing twice
    of.inherit("refused", 1.0)
    assert "12 instances were created within an hour" in of.refuse_creation("refused", 2.0)
    assert of.refuse_creation("3", 2.0)
    of.resume()
    assert not of.refuse_creation("refused", 3.0)
    of.creating("refused", 3.0)
    for number in range(CREATIONS_MIN + 1):
        of.creating(f"more-{number}", 3.0)
    assert not of.refuse_creation("refused", 4.0)  # this leader has requested it


def test_what_a_previous_leader_has_recorded_is_limited_while_too_many_members_have_vanished() -> None:
    """Found by the simulation: then nothing new is created, and what was refused before was requested."""
    of = Members(3, 1).guard
    for number in range(CREATIONS_MIN + 3 + 1):
        of.inherit(str(number), 0.0)
    assert of.refuse_creation("3", 1.0)
    for number in (1, 2, 3):
        of.vanished(instance(number), Slot(str(number)), 5.0)
    assert "3 of 3 members have vanished" in of.refuse_creation("3", 6.0)
    of.not_created("0")
    assert not of.refuse_creation("3", 6.0)  # as many as permitted: it may have been requested


def test_growth_and_new_versions_permit_further_creations_and_an_operator_a_new_window() -> None:
    of = Members(1, 1).guard
    for number in range(CREATIONS_MIN + 1):
        of.creating(str(number), 0.0)
    assert of.refuse_creation("more", 1.0)
    of.declare(Limits(size=1, version="v2"), 2.0)
    assert of.review([], 2.0).creations == 1
    of.declare(Limits(size=4, version="v2"), 3.0)
    assert of.review([], 3.0).creations == 4
    of.resume()
    assert of.review([], 3.0).creations == CREATIONS_MIN + 1 + 1 + 3


def test_scaling_in_does_not_withdraw_what_the_larger_group_was_permitted() -> None:
    members = Members(60, 24)
    for number in range(100):
        members.guard.creating(str(number), 0.0)
    members.guard.declare(Limits(size=10, max_lost=4, version="v1"), 1.0)
    assert members.guard.review([], 1.0).creations > 0


def test_a_member_is_not_destroyed_if_its_replacement_must_not_be_created() -> None:
    members = Members(10, 4)
    for number in range(30):
        members.guard.creating(str(number), 1.0)
    members.change(1, healthy=False)
    assert "at most 30 are permitted" in members.refusal(1)
    members.guard.declare(Limits(size=5, max_lost=4, version="v1"), 2.0)
    assert not members.refusal(1)  # it is surplus now


def test_creations_of_the_previous_leader_count_until_they_are_an_hour_old() -> None:
    guard = Guard()
    guard.recall(History(size=5, version="v1", created=((600, CREATIONS_MIN),)), 0.0)
    guard.declare(Limits(size=5, max_lost=2, version="v1"), 0.0)
    assert f"{CREATIONS_MIN} instances were created within an hour" in guard.refuse_creation("t", 1.0)
    assert guard.refuse_creation("t", WINDOW_S - 599.0) == ""
