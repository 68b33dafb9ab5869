"""Healing: terminated and unhealthy instances are replaced, within the limits of the group."""

import re
import subprocess

from tests.journeys.operator import Operator, cattle, pets

RECORDS_ID = 'echo "$INFRAKIT_INSTANCE_ID" >>"$INFRAKIT_VOLUME/lives"; exec sleep 1000'
UNHEALTHY_BY_FILE = {
    "Command": 'test ! -e "$MARK/sick-$INFRAKIT_GROUP-${LOGICAL_ID:-$SEQUENCE}"',
    "Interval": "100ms",
    "Failures": 1,
}


def test_killed_instances_are_recreated_and_a_pet_keeps_its_identity_and_data(operator: Operator) -> None:
    operator.up(cattle("web", 2), pets("db", "a b c", init=RECORDS_ID, Quorum=True))
    operator.converged()
    before = operator.members("db") | operator.members("web")
    for slot in ("b", "1"):
        operator.kill(before[slot]["ID"])
    operator.until(lambda: _differ(operator, before, {"b", "1"}), "the killed instances are replaced")
    operator.converged()
    pet = operator.members("db")["b"]
    assert [a["ID"] for a in pet["Attachments"]] == ["db-b"]
    volume = next((operator.home / "home").glob("**/db-b"))
    assert (volume / "lives").read_text().split() == [before["b"]["ID"], pet["ID"]]
    explanation = operator("why", "db/b")
    assert f"terminated     db/b {before['b']['ID']}: terminated (confirmed by the provider)" in operator("events")
    assert "is a member of db" in explanation


def _differ(operator: Operator, before: dict[str, dict[str, object]], slots: set[str]) -> bool:
    now = operator.members("db") | operator.members("web")
    return {s for s in before if s not in now or now[s]["ID"] != before[s]["ID"]} == slots and not (slots - now.keys())


def test_unhealthy_members_are_replaced_unless_max_unhealthy_is_exceeded(operator: Operator) -> None:
    operator.up(pets("db", "a b c", Health=UNHEALTHY_BY_FILE, Quorum=True))
    operator.converged()
    first = operator.members("db")
    marker = operator.home / "sick-db-a"
    marker.touch()
    operator.until(lambda: operator.members("db").get("a", first["a"])["ID"] != first["a"]["ID"], "a is replaced")
    marker.unlink()
    operator.converged()
    second = operator.members("db")
    operator("halt", "-m", "both at once, however slow this machine is")
    for slot in "bc":
        (operator.home / f"sick-db-{slot}").touch()
    operator.until(
        lambda: all(operator.members("db")[slot]["Health"] == "unhealthy" for slot in "bc"), "both are unhealthy"
    )
    operator("unhalt")
    operator.until(lambda: "[max-unhealthy]" in operator("why", "db"), "the circuit breaker is open")
    explanation = operator("why", "db")
    assert "members are not proven healthy, and MaxUnhealthy is 1" in explanation
    assert "infrakit group resume db --despite-unhealthy" in explanation
    operator("status", "--wait", "1s", exits=2)
    assert {s: m["ID"] for s, m in operator.members("db").items()} == {s: m["ID"] for s, m in second.items()}
    operator("halt", "-m", "both recover at once, however slow this machine is")
    for slot in "bc":
        (operator.home / f"sick-db-{slot}").unlink()
    operator.until(lambda: all(m["Health"] == "healthy" for m in operator.members("db").values()), "all are healthy")
    operator("unhalt")
    operator.converged()
    # No instance was replaced.
    assert {m["ID"] for m in operator.members("db").values()} == {m["ID"] for m in second.values()}


def test_an_operator_can_override_the_circuit_breaker(operator: Operator) -> None:
    operator.up(cattle("web", 3, Health=UNHEALTHY_BY_FILE))
    operator.converged()
    before = {m["ID"] for m in operator.members("web").values()}
    for slot in "123":
        (operator.home / f"sick-web-{slot}").touch()
    operator.until(lambda: "[max-unhealthy]" in operator("why", "web"), "the circuit breaker is open")
    for slot in "123":
        (operator.home / f"sick-web-{slot}").unlink()
    operator("group", "resume", "web", "--despite-unhealthy", "-m", "go")
    operator.converged()
    assert before  # a member that became healthy first is kept: both outcomes are correct


def test_a_named_instance_is_destroyed_with_and_without_replacement(operator: Operator) -> None:
    operator.up(cattle("web", 3))
    operator.converged()
    first = operator.members("web")
    operator("instance", "destroy", first["2"]["ID"], "-m", "strange noises")
    operator.until(lambda: operator.members("web").get("2", first["2"])["ID"] != first["2"]["ID"], "replaced")
    operator.converged()
    second = operator.members("web")
    operator("instance", "destroy", second["1"]["ID"], "--no-replace", "-m", "one too many")
    operator.until(lambda: len(operator.members("web")) == 2, "one member less")
    operator.converged()
    assert operator.group("web")["Want"] == 2
    assert second["1"]["ID"] not in {m["ID"] for m in operator.members("web").values()}
    assert "no group has an instance 'nobody'" in operator("instance", "destroy", "nobody", exits=1)


def test_logs_are_those_of_the_instance(operator: Operator) -> None:
    operator.up(cattle("web", 1, init="echo one; echo two; exec sleep 1000"))
    operator.converged()
    instance = operator.members("web")["1"]["ID"]
    assert operator("instance", "logs", instance) == "one\ntwo\n"
    assert operator("instance", "logs", instance, "-n", "1") == "two\n"
    assert instance in operator("instance", "describe", instance)
    with operator.start("instance", "logs", instance, "--follow", stdout=subprocess.PIPE) as following:
        try:
            assert following.stdout is not None
            assert [following.stdout.readline() for _ in range(2)] == ["one\n", "two\n"]
            operator("instance", "destroy", instance)
            assert following.wait(60) == 0  # the log ends when the instance is destroyed
        finally:
            following.kill()


def test_an_instance_that_cannot_start_is_retried_with_back_off_and_explained(operator: Operator) -> None:
    operator.up(cattle("web", 1, init="echo no database; exit 3"))
    operator.until(
        lambda: "back-off" in operator("why", "web/1") or "failed" in operator("why", "web/1"),
        "the creation is retried",
    )
    explained = re.compile(
        'i-[0-9a-f]+ terminated.*: it exited with code 3; its log ends "no database"; see infrakit instance logs i-'
    )
    operator.until(lambda: explained.search(operator("why", "web/1")), "the exit is explained")
    operator.commit(cattle("web", 1))
    assert len(operator.processes()) == 1


def test_a_finished_instance_is_not_restarted(operator: Operator) -> None:
    properties = {"SuccessCodes": [7], "Environment": {"RUNS": str(operator.home / "runs")}}
    operator.up(cattle("job", 1, init='echo $$ >>"$RUNS"; exit 7', instance=properties))
    operator.converged()
    assert operator.members("job")["1"]["State"] == "finished"
    operator.end_daemon()
    operator.up(cattle("job", 1, init='echo $$ >>"$RUNS"; exit 7', instance=properties))
    operator.converged()
    assert len((operator.home / "runs").read_text().split()) == 1


def test_the_log_of_a_terminated_instance_explains_its_exit(operator: Operator) -> None:
    operator.up(cattle("web", 1, init="echo boom of the day; sleep 0.2; exit 3"))
    operator.until(lambda: "terminated" in operator("events", "--group", "web"), "it terminates")
    terminated = next(line for line in operator("events", "--group", "web").splitlines() if " terminated " in line)
    assert terminated.endswith(': it exited with code 3; its log ends "boom of the day"')
    instance = terminated.split("web/1 ")[1].split(":")[0]
    assert "boom of the day" in operator("instance", "logs", instance)
    assert "no provider has a log of 'i-000000000000'" in operator("instance", "logs", "i-000000000000", exits=1)
