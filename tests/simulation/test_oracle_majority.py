"""The oracle alone: a quorum keeps the majority of its votes."""

from typing import Any

import pytest

from infrakit.spi import values
from infrakit.spi.values import InstanceID, InstanceSpec, LogicalID
from tests.simulation.court import GROUP, Court


@pytest.mark.parametrize(("ids", "lost"), [("a b c", 1), ("a b c d", 1), ("a b c d e", 2)])
def test_a_quorum_keeps_its_majority(court: Court, ids: str, lost: int) -> None:
    """Of an even number, half is no majority."""
    names = ids.split()
    court.at(1, lambda: court.declare(ids=ids, quorum=True))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in names))
    court.at(100, *(lambda n=n: court.cloud.kill(InstanceID(f"sim-{n + 1}")) for n in range(lost)))
    victim = f"sim-{len(names)}"
    evicted: dict[str, Any] = {"Evictions": {victim: {}}}
    court.at(300, lambda: court.declare(ids=ids, quorum=True, **evicted), lambda: court.destroy(victim))
    left = len(names) - lost - 1
    assert court.verdict.startswith(f"5 never worse: majority: {victim} is destroyed, which leaves {left} of")


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_members_that_are_not_declared_any_more_have_votes(court: Court, lost: int) -> None:
    """Three new members are declared beside one that stays, and one exists already: there are five."""
    court.at(1, lambda: court.declare(ids="a b c d", quorum=True))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in "abcd"))
    court.at(100, lambda: court.declare(ids="a e f g", quorum=True), lambda: court.create("e", pet=True))
    court.at(200, *(lambda n=n: court.cloud.kill(InstanceID(f"sim-{n + 1}")) for n in range(lost)))
    court.at(300, lambda: court.destroy("sim-4"))
    found = "5 never worse: majority: sim-4 is destroyed, which leaves 2 of 4 voters of g healthy"
    assert court.verdict.startswith(found) if lost == 2 else court.verdict == ""


def test_a_quorum_keeps_its_majority_without_the_vote_of_a_second_bearer(court: Court) -> None:
    """Whether two of three identities, or one, are healthy, the second instance of a healthy one adds none."""
    court.at(1, lambda: court.declare(ids="a b c", quorum=True))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in "abc"))
    again = InstanceSpec(tags={values.TAG_GROUP: GROUP}, logical_id=LogicalID("a"))
    court.at(100, lambda: court.cloud.kill(InstanceID("sim-2")), lambda: court.cloud._create(again))
    evicted: dict[str, Any] = {"Evictions": {"sim-4": {}, "sim-3": {}}}
    court.at(300, lambda: court.declare(ids="a b c", quorum=True, **evicted), lambda: court.destroy("sim-4"))
    assert court.verdict == ""
    court.at(301, lambda: court.cloud._create(again), lambda: court.destroy("sim-3"))
    assert court.verdict.startswith("5 never worse: majority: sim-3 is destroyed, which leaves 1 of 3 voters")
