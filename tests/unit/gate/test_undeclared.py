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


def test_an_undeclared_pet_is_kept_while_declared_ones_are_lost() -> None:
    members = shrunk(5, 3)
    members.destroy(1)
    members.terminate(1)
    assert members.refusal(4)
    members.add(11, "1", healthy=True, judged_at=2.0)
    assert not members.refusal(4)


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
