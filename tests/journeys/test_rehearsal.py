"""Rehearsals: an operator tries a declaration against faults, reads what would go wrong, and commits a better one."""

from typing import Any

from tests.journeys.operator import Operator, cattle, pets


def test_an_operator_rehearses_every_fault_before_the_first_commit(operator: Operator) -> None:
    document = operator.write(pets("db", "a b c", Quorum=True), cattle("web", 10))
    printed = operator("rehearse", document)
    for option in ("--kill 1", "--unhealthy 1", "--kill-share 30%", "--slow 10s", "--empty 120s", "--errors 120s"):
        assert f"{option}: " in printed
    assert "--bad-version: " in printed
    assert printed.count("db: lowest 2 of 3 healthy (majority 2)") == 7, "no exercise takes more than one member"
    assert "7 exercises: every promise was kept" in printed
    assert operator("rehearse", document) == printed, "the same seed repeats the same run"
    assert not operator.processes()


def test_a_rehearsal_beside_a_running_daemon_changes_nothing(operator: Operator) -> None:
    operator.up(cattle("web", 3))
    operator.converged()
    before, history = operator.processes(), operator("history")
    operator("rehearse", operator.write(cattle("web", 5, version="2"), name="next.json"), "--kill-share", "50%")
    assert (operator.processes(), operator("history")) == (before, history)


def test_a_zone_that_takes_too_many_is_found_and_the_declaration_is_fixed(operator: Operator) -> None:
    def zones(*names: str) -> dict[str, Any]:
        each = {f"10.0.0.{n}": {"Tags": {"zone": name}} for n, name in enumerate(names, 1)}
        return pets("db", " ".join(each), Quorum=True, ByLogicalID=each)

    crowded = operator.write(zones("a", "a", "b"), name="crowded.json")
    (exercise,) = operator.ask("rehearse", crowded, "--lose-zone", "zone=a")["Exercises"]
    (group,) = exercise["Groups"]
    assert (group["Lowest"], group["Majority"]) == (1, 2), "the fault itself takes the majority"
    operator("rehearse", crowded, "--lose-zone", "zone=a", "--within", "4m", exits=4)
    spread = operator.write(zones("a", "b", "c"), name="spread.json")
    for zone in "abc":
        (exercise,) = operator.ask("rehearse", spread, "--lose-zone", f"zone={zone}")["Exercises"]
        assert exercise["Groups"][0]["Lowest"] == 2
    assert "--lose-zone: no member has the tag zone=d" in operator("rehearse", spread, "--lose-zone=zone=d", exits=1)


def test_a_machine_that_boots_longer_than_its_grace_is_found(operator: Operator) -> None:
    document = operator.write(cattle("web", 3))
    printed = operator("rehearse", document, "--kill", "web/1", "--boot", "20m", "--within", "15m", exits=4)
    assert "BROKEN whole" in printed
    assert "never whole after the commit: 0 of 3 were healthy" in printed
    assert "1 exercise, and 1 would break a promise: --kill web/1" in printed
