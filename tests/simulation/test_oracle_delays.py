"""The oracle alone: what has happened, and no correct code need know or follow yet."""

import pytest

from infrakit.simulation.oracle.facts import KNOWN_S
from infrakit.spi.values import InstanceID
from tests.simulation.court import Court


def quorum(court: Court, ids: str, *evicted: str) -> None:
    """A healthy quorum; an operator requests the destruction of these instances of it."""
    court.at(1, lambda: court.declare(ids=ids, quorum=True))
    court.at(2, *(lambda i=i: court.create(i, pet=True) for i in ids.split()))
    court.at(100, lambda: court.declare(ids=ids, quorum=True, Evictions={each: {} for each in evicted}))


@pytest.mark.parametrize("later_s", [-1, 1])
@pytest.mark.parametrize("listed", [True, False])
def test_a_voter_that_has_terminated_is_not_known_to_at_once(court: Court, later_s: float, *, listed: bool) -> None:
    quorum(court, "a b c", "sim-3")
    if listed:
        court.oracle.voters_of = lambda _group: {InstanceID(f"sim-{n}") for n in (1, 2, 3)}
    court.at(300, lambda: court.cloud.kill(InstanceID("sim-1")))
    court.at(300 + KNOWN_S + later_s, lambda: court.destroy("sim-3"))
    assert court.verdict.startswith("5 never worse: majority: sim-3 is destroyed, which leaves 1 of 3") == (later_s > 0)


@pytest.mark.parametrize("how", ["destroyed", "replaced"])
def test_a_voter_that_infrakit_has_destroyed_or_replaced_is_known_at_once(court: Court, how: str) -> None:
    quorum(court, "a b c", "sim-1", "sim-3")
    if how == "destroyed":
        court.at(300, lambda: court.destroy("sim-1"))
    else:
        court.at(300, lambda: court.cloud.kill(InstanceID("sim-1")))
        court.at(301, lambda: court.create("a", pet=True, token="c/g/a/2"))
        court.at(301, lambda: setattr(court.cloud.machines[InstanceID("sim-4")], "healthy_at", 400.0))
    assert court.verdict == ""
    court.at(302, lambda: court.destroy("sim-3"))
    assert court.verdict.startswith("5 never worse: majority: sim-3 is destroyed, which leaves 1 of 3")


@pytest.mark.parametrize("copies", [0, 1, 2])
def test_while_nodes_use_copies_of_the_store_a_leader_may_follow_any_of_them(court: Court, copies: int) -> None:
    """The destruction of a group is revoked in one of them."""
    quorum(court, "a b c")
    court.at(200, lambda: court.declare(ids="a b c", quorum=True, Destroying={"Who": "ann"}))
    court.at(201, *(court.oracle.forked for _ in range(copies)))
    court.at(202, lambda: court.declare(ids="a b c", quorum=True, version=1))
    court.at(203, *(court.rejoin for _ in range(copies - 1)))
    court.at(204, lambda: court.destroy("sim-1"))
    court.at(205, lambda: court.destroy("sim-2"))
    assert court.verdict.startswith("5 never worse") == (copies == 0)


@pytest.mark.parametrize("later_s", [0.1, 1.0])
def test_a_leader_does_not_follow_a_copy_that_is_not_used_any_more(court: Court, later_s: float) -> None:
    """Calls may begin for the bound of the ledger, which is 0.1 s."""
    quorum(court, "a b c")
    court.at(200, lambda: court.declare(ids="a b c", quorum=True, Destroying={"Who": "ann"}), court.oracle.forked)
    court.at(202, lambda: court.declare(ids="a b c", quorum=True, version=1))
    court.at(203, court.rejoin)
    court.at(203 + later_s, lambda: court.destroy("sim-1"), lambda: court.destroy("sim-2"))
    assert court.verdict.startswith("5 never worse") == (later_s == 1.0)


@pytest.mark.parametrize(("began_at", "later_s"), [(160, -1), (160, 1), (220, -1)])
def test_what_happens_shortly_before_an_outage_is_observed_after_it(
    court: Court, began_at: float, later_s: float
) -> None:
    court.at(1, lambda: court.declare(5), *(lambda i=i: court.create(str(i)) for i in range(5)))
    court.at(150, *(lambda n=n: court.cloud.make_unhealthy(InstanceID(f"sim-{n}")) for n in (1, 2, 3)))
    court.at(began_at, lambda: court.oracle.facts.outage(400))
    court.at(400 + 60 + 30 + KNOWN_S + later_s, lambda: court.destroy("sim-1"))
    was_known = began_at > 150 + KNOWN_S
    assert court.verdict.startswith("5 never worse: too many unhealthy") == (was_known or later_s > 0)
