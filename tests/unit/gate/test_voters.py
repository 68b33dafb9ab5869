"""The votes of a quorum: no destruction leaves less than a majority of the listed voters healthy."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from infrakit.gate.voters import AGE_S_MAX
from infrakit.spi.flavor import Voter
from tests.unit.gate.test_guard import Members, instance


def voter(number: int, *, healthy: bool | None = True) -> Voter:
    """The voter that is the instance of this number."""
    return Voter(id=f"v{number}", name=f"n{number}", instances=(instance(number),), healthy=healthy)


def foreign(name: str, *, healthy: bool | None = False) -> Voter:
    return Voter(id=name, name=name, healthy=healthy)


def quorum(size: int, voters: Sequence[Voter], *, max_lost: int | None = None, at: float = 1.0) -> Members:
    """A healthy quorum of that declared size, and its member list."""
    members = Members(size, max_lost if max_lost is not None else max(1, (size - 1) // 2), quorum=True)
    members.guard.list_voters(voters, at)
    return members


def own(size: int) -> list[Voter]:
    return [voter(number) for number in range(1, size + 1)]


@pytest.mark.parametrize(("size", "lost"), [(3, 1), (4, 1), (5, 2), (6, 2), (7, 3)])
def test_a_majority_of_the_listed_voters_remains(size: int, lost: int) -> None:
    """Each voter that is destroyed fails for good, and the limits of the group alone would permit all of them."""
    members, voters = quorum(size, own(size), max_lost=size), own(size)
    done = []
    for number in range(1, size + 1):
        if not members.refusal(number):
            members.destroy(number)
            members.terminate(number)
            voters[number - 1] = voter(number, healthy=False)
            members.guard.list_voters(voters, 1.0)
            done.append(number)
    assert len(done) == lost


@pytest.mark.parametrize("size", [1, 2])
def test_one_or_two_voters_are_replaced_although_they_can_lose_none(size: int) -> None:
    assert not quorum(size, own(size)).refusal(1)


def test_a_foreign_voter_that_is_down_counts() -> None:
    members = quorum(3, [*own(3), foreign("alien")])
    assert members.refusal(1) == (
        "2 of 4 listed voters would be left healthy (not healthy: alien), and the quorum needs 3"
    )
    members.guard.list_voters([*own(3), foreign("alien", healthy=True)], 1.0)
    assert not members.refusal(1)


@pytest.mark.parametrize("health", [False, None])
def test_a_voter_that_has_never_started_counts_as_lost(health: bool | None) -> None:
    joining = Voter(id="v4", address="http://10.0.0.4:2380", healthy=health)
    members = quorum(3, [*own(3), joining])
    assert "(not healthy: http://10.0.0.4:2380), and the quorum needs 3" in members.refusal(1)


def test_the_declared_size_does_not_count() -> None:
    """Five are declared, and two of them have not joined: three voters can lose one, not two."""
    members = quorum(5, own(3), max_lost=2)
    members.change(2, healthy=False)
    members.guard.list_voters([voter(1), voter(2, healthy=False), voter(3)], 1.0)
    assert "1 of 3 listed voters would be left healthy" in members.refusal(1)
    assert not members.refusal(4)  # it has no vote


def test_an_unhealthy_voter_may_be_destroyed() -> None:
    members = quorum(3, [voter(1, healthy=False), voter(2), voter(3)])
    members.change(1, healthy=False)
    assert not members.refusal(1)
    assert "1 of 3 listed voters" in members.refusal(2)


def test_a_vote_counts_although_the_health_check_fails() -> None:
    """A follower that lags behind still votes."""
    members = quorum(4, [*own(3), voter(4, healthy=False)], max_lost=2)
    members.change(4, healthy=False)
    members.change(1, healthy=False)
    assert "2 of 4 listed voters" in members.refusal(1)


def test_a_member_that_is_not_proven_healthy_does_not_count_for_the_others() -> None:
    members = quorum(3, own(3), max_lost=2)
    members.change(2, healthy=False)
    assert "1 of 3 listed voters" in members.refusal(1)


def test_a_member_that_is_being_destroyed_does_not_count_for_the_others() -> None:
    members = quorum(3, own(3), max_lost=3)
    members.destroy(1)
    assert "1 of 3 listed voters" in members.refusal(2)


def test_two_instances_of_one_address_may_both_be_the_voter() -> None:
    both = Voter(id="v1", name="n1", instances=(instance(1), instance(4)), healthy=True)
    members = quorum(3, [both, voter(2), voter(3, healthy=False)], max_lost=2)
    members.add(4, "1")
    assert "1 of 3 listed voters" in members.refusal(4)
    assert "1 of 3 listed voters" in members.refusal(1)


UNKNOWN: list[Any] = ["no member has a leader", []]


@pytest.mark.parametrize("answer", UNKNOWN, ids=["failed", "empty"])
def test_without_a_list_only_a_member_that_is_known_to_be_unhealthy_is_destroyed(answer: Any) -> None:
    members = Members(3, 1, quorum=True)
    members.guard.list_voters(answer, 1.0)
    assert "it is not proven that the quorum keeps its majority" in members.refusal(1)
    members.change(1, healthy=None)
    assert members.refusal(1)
    members.change(1, healthy=False)
    assert not members.refusal(1)


def test_a_list_expires() -> None:
    members = quorum(3, own(3))
    assert not members.guard.refuse_destroy(instance(1), 1.0 + AGE_S_MAX)
    members.guard.list_voters("no leader", 2.0)
    assert not members.guard.refuse_destroy(instance(1), 1.0 + AGE_S_MAX)  # the last list is recent enough
    assert "(no leader)" in members.guard.refuse_destroy(instance(1), 2.0 + AGE_S_MAX)


def test_a_destruction_that_was_drained_is_checked_again_when_it_begins() -> None:
    members = quorum(3, own(3))
    members.guard.destroying(instance(1), 1.0)
    assert not members.refusal(1)
    members.guard.list_voters([voter(1), voter(2), voter(3, healthy=False)], 2.0)
    assert "1 of 3 listed voters" in members.refusal(1)
    members.guard.list_voters("no leader", 2.0)
    assert "listed voters" in members.refusal(1)


def test_the_drain_of_a_second_bearer_leaves_the_vote_of_the_other_one() -> None:
    members = quorum(2, own(3))
    members.add(3, "1")
    members.guard.destroying(instance(3), 1.0, drains=True)
    assert not members.refusal(3)
    members.guard.destroying(instance(3), 1.0)
    assert "1 of 3 listed voters" in members.refusal(3)  # from now on, perhaps both have lost it


def test_an_operator_does_not_override_the_majority_for_one_instance_but_destroys_the_group() -> None:
    members = quorum(3, [*own(3), foreign("alien")])
    limits = members.limits
    for requested, refused in ({"requested": frozenset([instance(1)])}, True), ({"destroying": True}, False):
        members.guard.declare(msgspec.structs.replace(limits, **requested), 1.0)
        assert bool(members.refusal(1)) is refused


def test_a_group_without_a_quorum_has_no_votes() -> None:
    members = Members(3, 1)
    members.guard.list_voters("no leader", 1.0)
    assert not members.refusal(1)


@pytest.mark.parametrize(
    ("voters", "text"),
    [
        (own(3), "3 of 3 listed voters are healthy; the quorum can lose 1 of them"),
        ([*own(3), foreign("alien")], "3 of 4 listed voters are healthy; the quorum can lose none of them"),
        (
            [voter(1), voter(2, healthy=False), voter(3, healthy=None)],
            "1 of 3 listed voters are healthy, and the quorum needs 2",
        ),
        (
            "no leader",
            "what the quorum can lose is not known: the list of its voters is unknown (no leader)",
        ),
    ],
)
def test_what_can_be_lost_is_shown_from_the_list(voters: Any, text: str) -> None:
    members = Members(3, 1, quorum=True)
    assert members.guard.can_lose(1.0) == ""
    members.guard.list_voters(voters, 1.0)
    assert members.guard.can_lose(1.0) == text


def test_a_change_of_the_list_is_reported() -> None:
    members = Members(3, 1, quorum=True)
    assert members.guard.list_voters(own(3), 1.0)
    assert not members.guard.list_voters(own(3), 2.0)
    assert members.guard.list_voters("no leader", 3.0)
    assert not members.guard.list_voters("no leader", 4.0)
    assert members.guard.list_voters(own(3), 5.0)


def unlisted(**more: Any) -> Members:
    """A healthy quorum of three whose flavor does not list its voters."""
    members = Members(3, 1, quorum=True)
    members.guard.declare(msgspec.structs.replace(members.limits, **more), 1.0)
    return members


def test_without_a_list_every_instance_that_may_exist_counts_as_a_voter() -> None:
    """One that is not declared any more, and unhealthy, is still on the list of its cluster."""
    assert not unlisted().refusal(1)
    members = unlisted(votes=4)
    members.add(4, "4", healthy=False)
    assert members.refusal(1) == "2 of 4 members would be left proven healthy, and the quorum needs 3"
    assert not members.refusal(4)


def test_without_a_list_two_are_replaced_one_by_one_unless_a_third_may_exist() -> None:
    members = Members(2, 1, quorum=True)
    assert not members.refusal(1)
    members.guard.declare(msgspec.structs.replace(members.limits, votes=3), 1.0)
    assert members.refusal(1) == "1 of 3 members would be left proven healthy, and the quorum needs 2"


def test_without_a_list_a_member_that_is_joining_has_no_vote() -> None:
    members = unlisted(joining=frozenset({instance(3)}))
    assert members.refusal(1) == "1 of 3 members would be left proven healthy, and the quorum needs 2"
