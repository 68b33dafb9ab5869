"""Pets that are not declared any more are no substitutes for declared ones that are lost."""

import msgspec
import pytest

from infrakit.spi.values import Slot
from tests.unit.gate.test_guard import Members


def shrunk(size: int, declared: int, *, max_lost: int = 1) -> Members:
    """That many healthy pets, of which only the first ones are still declared."""
    members = Members(size, max_lost)
    slots = frozenset(Slot(str(number)) for number in range(1, declared + 1))
    members.limits = msgspec.structs.replace(members.limits, size=declared, slots=slots)
    members.guard.declare(members.limits, 1.0)
    return members


def test_undeclared_pets_do_not_replace_declared_ones() -> None:
    members = shrunk(5, 3)
    assert members.permitted(range(1, 4)) == [1]
    assert "2 of 3 members would be lost" in members.refusal(2)


def test_undeclared_pets_are_destroyed_while_every_declared_one_is_healthy() -> None:
    members = shrunk(5, 3)
    assert members.permitted(range(4, 6)) == [4, 5]
    assert members.permitted(range(1, 4)) == [1]


def test_surplus_pets_leave_while_a_declared_one_is_lost() -> None:
    """In a quorum, the lost one may have to wait for that."""
    members = shrunk(5, 3)
    members.destroy(1)
    members.terminate(1)
    assert members.permitted(range(4, 6)) == [4, 5]
    assert "2 of 3 members would be lost" in members.refusal(2)


def test_pets_that_are_not_declared_any_more_stay_while_too_few_are_healthy() -> None:
    members = shrunk(5, 3)
    for number in (1, 2):
        members.change(number, healthy=False)
    assert "2 of 3 members would be lost" in members.refusal(4)


@pytest.mark.parametrize("healthy_first", [True, False])
def test_members_are_exchanged_one_at_a_time_with_proof_between(healthy_first: bool) -> None:
    """1 2 3 are declared no more, 4 5 6 are: another one is destroyed once a new one is proven healthy."""
    members = Members(3, 1)
    slots = frozenset(Slot(each) for each in "456")
    members.limits = msgspec.structs.replace(members.limits, slots=slots)
    members.guard.declare(members.limits, 1.0)
    if healthy_first:
        members.add(4, "4")
    done = [1, 2] if healthy_first else [1]
    assert members.permitted(range(1, 4)) == done
    members.add(5, "5")
    rest = range(len(done) + 1, 4)
    assert members.permitted(rest) == [rest[0]]
