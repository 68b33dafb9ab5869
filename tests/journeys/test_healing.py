"""Things die, fall ill, and return; and nothing is made worse."""

import re
import subprocess

from tests.journeys.operator import Operator, cattle, pets

REMEMBERS = 'echo "$INFRAKIT_INSTANCE_ID" >>"$INFRAKIT_VOLUME/lives"; exec sleep 1000'
SICK_FILE = {
    "Command": 'test ! -e "$MARK/sick-$INFRAKIT_GROUP-${LOGICAL_ID:-$SEQUENCE}"',
    "Interval": "100ms",
    "Failures": 1,
}


def test_what_is_killed_returns_and_a_pet_with_its_identity_and_data(operator: Operator) -> None:
    operator.up(cattle("web", 2), pets("db", "a b c", init=REMEMBERS, Quorum=True))
    operator.converged()
    before = operator.members("db") | operator.members("web")
    for slot in ("b", "1"):
        operator.kill(before[slot]["ID"])
    operator.until(lambda: _differ(operator, before, {"b", "1"}), "the killed were replaced")
    operator.converged()
    pet = operator.members("db")["b"]
    assert [a["ID"] for a in pet["Attachments"]] == ["db-b"]
    volume = next((operator.home / "home").glob("**/db-b"))
    assert (volume / "lives").read_text().split() == [before["b"]["ID"], pet["ID"]]
    told = operator("why", "db/b")
    assert f"terminated     db/b {before['b']['ID']}: terminated (confirmed by the provider)" in operator("events")
    assert "is a member of db" in told


def _differ(operator: Operator, before: dict[str, dict[str, object]], slots: set[str]) -> bool:
    now = operator.members("db") | operator.members("web")
    return {s for s in before if s not in now or now[s]["ID"] != before[s]["ID"]} == slots and not (slots - now.keys())


def test_the_sick_are_replaced_unless_too_many_are(operator: Operator) -> None:
    operator.up(pets("db", "a b c", Health=SICK_FILE, Quorum=True))
    operator.converged()
    first = operator.members("db")
    sick = operator.home / "sick-db-a"
    sick.touch()
    operator.until(lambda: operator.members("db").get("a", first["a"])["ID"] != first["a"]["ID"], "a was replaced")
    sick.unlink()
    operator.converged()
    second = operator.members("db")
    operator("halt", "-m", "both at once, however slow this machine is")
    for slot in "bc":
        (operator.home / f"sick-db-{slot}").touch()
    operator.until(lambda: all(operator.members("db")[slot]["Health"] == "unhealthy" for slot in "bc"), "both are sick")
    operator("unhalt")
    operator.until(lambda: "is refused" in operator("why", "db"), "the breaker opened")
    told = operator("why", "db")
    assert "the quorum can lose only 1" in told
    assert "infrakit group resume db --despite-unhealthy" in told
    operator("status", "--wait", "1s", exits=2)
    assert {s: m["ID"] for s, m in operator.members("db").items()} == {s: m["ID"] for s, m in second.items()}
    operator("halt", "-m", "both recover at once, however slow this machine is")
    for slot in "bc":
        (operator.home / f"sick-db-{slot}").unlink()
    operator.until(lambda: all(m["Health"] == "healthy" for m in operator.members("db").values()), "all are healthy")
    operator("unhalt")
    operator.converged()
    assert {m["ID"] for m in operator.members("db").values()} == {m["ID"] for m in second.values()}  # nothing was lost


def test_an_operator_may_say_go(operator: Operator) -> None:
    operator.up(cattle("web", 3, Health=SICK_FILE))
    operator.converged()
    before = {m["ID"] for m in operator.members("web").values()}
    for slot in "123":
        (operator.home / f"sick-web-{slot}").touch()
    operator.until(lambda: "is refused" in operator("why", "web"), "the breaker opened")
    for slot in "123":
        (operator.home / f"sick-web-{slot}").unlink()
    operator("group", "resume", "web", "--despite-unhealthy", "-m", "go")
    operator.converged()
    assert before  # whoever became healthy first was left alone: both ends are right


def test_a_named_instance_is_destroyed_with_and_without_replacement(operator: Operator) -> None:
    operator.up(cattle("web", 3))
    operator.converged()
    first = operator.members("web")
    operator("instance", "destroy", first["2"]["ID"], "-m", "strange noises")
    operator.until(lambda: operator.members("web").get("2", first["2"])["ID"] != first["2"]["ID"], "replaced")
    operator.converged()
    second = operator.members("web")
    operator("instance", "destroy", second["1"]["ID"], "--no-replace", "-m", "one too many")
    operator.until(lambda: len(operator.members("web")) == 2, "one less")
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
            assert following.wait(60) == 0  # its end is the end of its log
        finally:
            following.kill()


def test_one_that_cannot_start_is_tried_with_patience_and_explained(operator: Operator) -> None:
    operator.up(cattle("web", 1, init="echo no database; exit 3"))
    operator.until(lambda: "back-off" in operator("why", "web/1") or "failed" in operator("why", "web/1"), "patience")
    explained = re.compile(
        'i-[0-9a-f]+ terminated.*: it exited with code 3; its log ends "no database"; see infrakit instance logs i-'
    )
    operator.until(lambda: explained.search(operator("why", "web/1")), "an explanation")
    operator.commit(cattle("web", 1))
    assert len(operator.processes()) == 1


def test_finished_on_purpose_is_not_started_again(operator: Operator) -> None:
    properties = {"SuccessCodes": [7], "Environment": {"RUNS": str(operator.home / "runs")}}
    operator.up(cattle("job", 1, init='echo $$ >>"$RUNS"; exit 7', instance=properties))
    operator.converged()
    assert operator.members("job")["1"]["State"] == "finished"
    operator.end_daemon()
    operator.up(cattle("job", 1, init='echo $$ >>"$RUNS"; exit 7', instance=properties))
    operator.converged()
    assert len((operator.home / "runs").read_text().split()) == 1


def test_logs_of_the_dead_tell_why_they_died(operator: Operator) -> None:
    operator.up(cattle("web", 1, init="echo boom of the day; sleep 0.2; exit 3"))
    operator.until(lambda: "terminated" in operator("events", "--group", "web"), "it dies")
    gone = next(line for line in operator("events", "--group", "web").splitlines() if " gone " in line)
    assert gone.endswith(': it exited with code 3; its log ends "boom of the day"')
    instance = gone.split("web/1 ")[1].split(":")[0]
    assert "boom of the day" in operator("instance", "logs", instance)
    assert "no provider has a log of 'i-000000000000'" in operator("instance", "logs", "i-000000000000", exits=1)
