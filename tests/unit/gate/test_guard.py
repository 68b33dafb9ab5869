"""The guard: what a group may lose and create, from what was observed and what has begun."""

import random

import pytest

from infrakit.gate.guard import CREATIONS_MIN, WINDOW_S, Guard, Limits
from infrakit.spi.values import InstanceID, Slot


def guard(size: int, max_lost: int, *, quorum: bool = False, healthy: int | None = None) -> Guard:
    """A guard of a group whose slots 1 to `healthy` are held by i-1, i-2, ..."""
    created = Guard()
    created.declare(Limits(size=size, max_lost=max_lost, quorum=quorum, version="v1"), 0.0)
    for number in range(1, (size if healthy is None else healthy) + 1):
        created.healthy(instance(number), Slot(str(number)))
    return created


def instance(number: int) -> InstanceID:
    return InstanceID(f"i-{number}")


def permitted(of: Guard, numbers: range) -> list[int]:
    """Destroy the members of these numbers, one after the other; return those that were permitted."""
    done = []
    for number in numbers:
        if not of.refuse_destroy(instance(number), 0.0):
            of.destroying(instance(number))
            of.terminated(instance(number))
            done.append(number)
    return done


def test_healthy_members_are_destroyed_until_max_lost_are_lost() -> None:
    of = guard(10, 4)
    assert permitted(of, range(1, 11)) == [1, 2, 3, 4]
    why = of.refuse_destroy(instance(5), 0.0)
    assert why == (
        "5 of 10 members would be lost and not proven healthy again; MaxUnhealthy is 4 "
        "(lost now: i-1 destroyed, i-2 destroyed, i-3 destroyed)"
    )


def test_a_replacement_that_is_proven_healthy_ends_the_loss_of_its_slot() -> None:
    of = guard(10, 1)
    assert permitted(of, range(1, 11)) == [1]
    of.healthy(instance(11), Slot("1"))
    assert permitted(of, range(2, 11)) == [2]


def test_unhealthy_members_may_be_destroyed_while_at_most_max_lost_are_lost() -> None:
    of = guard(10, 2)
    for number in (1, 2):
        of.not_healthy(instance(number), "is unhealthy")
    assert not of.refuse_destroy(instance(1), 0.0)
    assert of.refuse_destroy(instance(3), 0.0)  # it is healthy: a third loss
    of.not_healthy(instance(3), "is unhealthy")
    assert "3 of 10 members" in of.refuse_destroy(instance(1), 0.0)
    assert of.refuse_destroy(InstanceID("never seen"), 0.0)


def test_a_surplus_is_no_loss_and_is_removed_at_the_pace() -> None:
    of = guard(10, 4, healthy=100)
    begun = []
    for number in range(1, 101):
        if not of.refuse_destroy(instance(number), 0.0):
            of.destroying(instance(number))
            begun.append(number)
    assert begun == [1, 2, 3, 4]
    assert "4 members are being destroyed already" in of.refuse_destroy(instance(5), 0.0)
    of.terminated(instance(1))
    assert not of.refuse_destroy(instance(5), 0.0)


def test_members_of_a_quorum_are_destroyed_one_at_a_time() -> None:
    of = guard(5, 2, quorum=True)
    of.destroying(instance(1))
    assert "being destroyed already, at most 1" in of.refuse_destroy(instance(2), 0.0)
    of.terminated(instance(1))
    assert not of.refuse_destroy(instance(2), 0.0)


def test_a_quorum_whose_logical_ids_were_all_changed_keeps_its_majority() -> None:
    of = guard(5, 2, quorum=True)
    of.declare(Limits(size=5, max_lost=2, quorum=True, version="v2"), 1.0)
    assert permitted(of, range(1, 6)) == [1, 2]  # three of five are left until new ones are proven healthy
    of.healthy(instance(6), Slot("new"))
    assert permitted(of, range(3, 6)) == [3]


def test_terminated_members_count_as_lost() -> None:
    of = guard(10, 2)
    for number in (1, 2, 3):
        of.terminated(instance(number))
    assert of.refuse_destroy(instance(4), 0.0)


def test_the_other_instance_of_a_slot_must_be_proven_healthy_again() -> None:
    of = guard(3, 1)
    of.healthy(instance(9), Slot("1"))
    of.destroying(instance(9))
    of.terminated(instance(9))
    assert "i-1 is to be proven healthy again" in of.refuse_destroy(instance(2), 0.0)
    of.healthy(instance(1), Slot("1"))
    assert not of.refuse_destroy(instance(2), 0.0)


def test_growth_is_no_loss() -> None:
    of = guard(10, 1, healthy=5)  # the other five have never existed
    assert not of.refuse_destroy(instance(1), 0.0)


def test_a_destruction_without_effect_is_no_loss_and_one_without_answer_is() -> None:
    of = guard(10, 1)
    of.destroying(instance(1))
    of.not_destroyed(instance(1))
    assert not of.refuse_destroy(instance(2), 0.0)
    of.destroying(instance(2))
    of.destroy_unknown(instance(2))
    assert of.refuse_destroy(instance(3), 0.0)
    of.healthy(instance(2), Slot("2"))  # a new report: it still exists
    assert not of.refuse_destroy(instance(3), 0.0)


def test_a_report_during_a_drain_does_not_end_the_loss() -> None:
    of = guard(10, 1)
    of.destroying(instance(1))
    of.healthy(instance(1), Slot("1"))
    assert of.refuse_destroy(instance(2), 0.0)
    assert not of.refuse_destroy(instance(1), 0.0)  # the destruction that follows its drain


def test_what_operators_request_is_permitted_and_counted() -> None:
    of = guard(10, 1)
    requested = frozenset(instance(n) for n in (1, 2, 3))
    of.declare(Limits(size=10, max_lost=1, version="v1", requested=requested), 1.0)
    assert permitted(of, range(1, 11)) == [1, 2, 3]
    of.declare(Limits(size=10, max_lost=1, version="v1", destroying=True), 2.0)
    assert permitted(of, range(4, 11)) == list(range(4, 11))


def test_a_plan_is_reviewed_as_if_its_actions_began_one_after_the_other() -> None:
    of = guard(10, 4)
    verdict = of.review([instance(n) for n in range(1, 11)], 0.0)
    assert sorted(verdict.destroys) == sorted(instance(n) for n in range(5, 11))
    assert permitted(of, range(1, 11)) == [1, 2, 3, 4]


def test_creations_within_an_hour_are_limited() -> None:
    of = guard(10, 4)
    limit = 2 * 10 + 10  # ten of growth: the group is new
    for number in range(limit):
        assert not of.refuse_creation(f"t-{number}", 1.0)
        of.creating(f"t-{number}", 1.0 + number)
    why = of.refuse_creation("more", 100.0)
    assert "30 instances were created within an hour, at most 30" in why
    assert not of.refuse_creation("t-3", 100.0)  # a retry with the token of a creation that was counted
    assert of.review([], 100.0).creations == 0
    assert of.review([], 100.0).until == 1.0 + WINDOW_S
    assert not of.refuse_creation("more", 12.0 + WINDOW_S)  # 11 are older than an hour now, and so is the growth


def test_nothing_is_created_after_a_mass_disappearance_without_a_survivor() -> None:
    of = guard(3, 1)
    of.terminated(instance(1), Slot("1"), vanished=True)
    of.listed(0)
    assert not of.refuse_creation("t", 0.0)  # one of three
    of.terminated(instance(2), Slot("2"), vanished=True)
    of.terminated(instance(3), Slot("3"), vanished=True)
    of.listed(0)
    assert "3 of 3 members have vanished" in of.refuse_creation("t", 0.0)
    assert of.review([], 0.0).creations == 0
    of.listed(1)  # one is shown: the others are missing from a listing of the right account
    assert not of.refuse_creation("t", 0.0)


def test_an_operator_resumes_a_group_that_has_vanished() -> None:
    of = guard(3, 1)
    for number in (1, 2, 3):
        of.terminated(instance(number), Slot(str(number)), vanished=True)
    of.resume()
    assert not of.refuse_creation("t", 0.0)


def test_what_the_provider_reports_terminated_or_was_destroyed_has_not_vanished() -> None:
    of = guard(3, 1)
    of.terminated(instance(1), Slot("1"))
    of.terminated(instance(2), Slot("2"))
    of.destroying(instance(3))
    of.terminated(instance(3), Slot("3"), vanished=True)
    assert not of.refuse_creation("t", 0.0)


def test_a_member_is_not_destroyed_if_its_replacement_must_not_be_created() -> None:
    of = guard(10, 4)
    for number in range(30):
        of.creating(str(number), 1.0)
    of.not_healthy(instance(1), "is unhealthy")
    assert "at most 30 are permitted" in of.refuse_destroy(instance(1), 2.0)
    of.declare(Limits(size=5, max_lost=4, version="v1"), 2.0)
    assert not of.refuse_destroy(instance(1), 2.0)  # it is surplus now


def test_growth_and_new_versions_permit_further_creations_and_an_operator_a_new_window() -> None:
    of = guard(1, 1)
    for number in range(CREATIONS_MIN + 1):
        of.creating(str(number), 0.0)
    assert of.refuse_creation("more", 1.0)
    of.declare(Limits(size=1, version="v2"), 2.0)
    assert of.review([], 2.0).creations == 1
    of.declare(Limits(size=4, version="v2"), 3.0)
    assert of.review([], 3.0).creations == 4
    of.resume()
    assert of.review([], 3.0).creations == CREATIONS_MIN + 1 + 1 + 3


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_no_permitted_destruction_exceeds_max_lost(seed: int) -> None:
    """Random histories; all members were healthy once, so what is not healthy now is lost."""
    rng = random.Random(seed)
    size, max_lost = rng.randint(1, 8), rng.randint(1, 3)
    of = guard(size, max_lost)
    up = {instance(n): Slot(str(n)) for n in range(1, size + 1)}
    serial = size
    for _ in range(300):
        step = rng.random()
        if step < 0.45 and up:
            victim = rng.choice(sorted(up))
            if not of.refuse_destroy(victim, 0.0):
                of.destroying(victim)
                of.terminated(victim)
                del up[victim]
                assert size - len(up) <= max_lost
        elif step < 0.6 and up:
            victim = rng.choice(sorted(up))
            of.not_healthy(victim, "is unhealthy")
            del up[victim]
        else:
            free = [s for n in range(1, size + 1) if (s := Slot(str(n))) not in up.values()]
            if free:
                serial += 1
                up[instance(serial)] = free[0]
                of.healthy(instance(serial), free[0])
