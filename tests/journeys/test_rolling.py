"""Rolling updates: members are replaced one by one, until the update fails or an operator stops it."""

from tests.journeys.operator import Operator, cattle, pets

BAD = "echo it does not start; exit 1"


def test_a_rolling_update_drains_and_replaces_one_member_at_a_time(operator: Operator) -> None:
    drain = {"Drain": {"Command": 'echo "$LOGICAL_ID" >>"$MARK/drained"'}}
    operator.up(pets("db", "a b c", Quorum=True, **drain))
    operator.converged()
    before = {m["ID"] for m in operator.members("db").values()}
    planned = operator("plan", operator.write(pets("db", "a b c", version="2", Quorum=True, **drain)))
    assert planned.count("~") >= 3
    operator.commit(pets("db", "a b c", version="2", Quorum=True, **drain))
    members = operator.members("db")
    assert not before & {m["ID"] for m in members.values()}
    assert all(m["UpToDate"] for m in members.values())
    assert (operator.home / "drained").read_text().split() == ["a", "b", "c"]
    kinds = [line.split()[2] for line in operator("events", "--group", "db").splitlines()]
    assert [k for k in kinds if k in {"destroying", "healthy"}][3:] == ["destroying", "healthy"] * 3


def test_a_failing_rolling_update_is_paused_and_rolled_back_by_the_operator(operator: Operator) -> None:
    operator.up(cattle("web", 3))
    operator.converged()
    operator.commit(cattle("web", 3, version="2", init=BAD), wait=False)
    operator.until(lambda: operator.group("web")["Phase"] == "paused", "the rolling update is paused")
    explanation = operator("why", "web")
    assert "paused by infrakit" in explanation
    assert "infrakit group rollback web" in explanation
    operator.until(lambda: len(operator.processes()) == 3, "the slot is healed with the previous version")
    assert "pause" in operator("history")
    operator("group", "rollback", "web", "-m", "it does not start", "--wait=30s")
    operator.until(lambda: len(operator.processes()) == 3, "all instances are recreated")
    operator.converged()


def test_a_failing_rolling_update_is_rolled_back_automatically_if_declared(operator: Operator) -> None:
    rollback = {"OnFailure": "rollback"}
    operator.up(cattle("web", 2, updating=rollback))
    operator.converged()
    operator.commit(cattle("web", 2, version="2", init=BAD, updating=rollback), wait=False)
    operator.until(lambda: "rollback" in operator("history"), "it is rolled back")
    operator.until(lambda: len(operator.processes()) == 2, "all instances are recreated")
    operator.converged()
    changes = [line for line in operator("history").splitlines()[1:] if " proven " not in line]
    assert "rollback" in changes[0]


def test_after_two_bad_versions_the_proven_one_is_declared_again(operator: Operator) -> None:
    operator.up(pets("db", "a b c", Quorum=True))
    operator.converged()
    operator.until(lambda: "proven" in operator("history"), "the first version is recorded as proven")
    good = operator.group("db")["Hash"]
    assert operator.group("db")["Proven"] == good
    operator.commit(pets("db", "a b c", version="2", Quorum=True, init=BAD), wait=False)
    operator.until(lambda: operator.group("db")["Phase"] == "paused", "the first bad version is paused")
    assert f"version {good[:8]} is the last proven one: healing creates it" in operator("why", "db")
    operator.until(lambda: len(operator.processes()) == 3, "the canary of the quorum returns by itself")
    operator.kill(operator.members("db")["c"]["ID"])
    operator.until(lambda: len(operator.processes()) == 3, "an old member is healed with the proven version")
    assert {member["Hash"] for member in operator.members("db").values()} == {good}
    worse = pets("db", "a b c", version="3", Quorum=True, init=BAD, updating={"OnFailure": "rollback"})
    operator.commit(worse, wait=False)
    operator.until(lambda: "rollback" in operator("history"), "the second bad version is rolled back")
    operator.until(lambda: operator.group("db")["Hash"] == good, "the proven version is declared again")
    operator.converged()


def test_a_rolling_update_is_paused_resumed_and_aborted(operator: Operator) -> None:
    slowly = {"Settle": "8s"}  # longer than a command takes, so that no command comes after the end
    operator.up(cattle("web", 4, updating=slowly))
    operator.converged()
    old = operator.group("web")["Hash"]
    operator.commit(cattle("web", 4, version="2", updating=slowly), wait=False)
    operator.until(lambda: _of_version(operator, old) < 4, "the rolling update has started")
    operator("group", "pause", "web", "-m", "lunch")
    operator.until(lambda: operator.group("web")["Phase"] == "paused" and operator.group("web")["Live"] == 4, "paused")
    remaining = _of_version(operator, old)
    assert 0 < remaining < 4
    assert "paused by ann" in operator("why", "web")
    operator("group", "resume", "web")
    operator.until(lambda: _of_version(operator, old) < remaining, "the rolling update continued")
    operator("group", "abort", "web", "-m", "enough")
    operator.until(lambda: operator.group("web")["Phase"] == "paused" and operator.group("web")["Live"] == 4, "aborted")
    remaining = _of_version(operator, old)
    if remaining:
        slot, member = next((s, m) for s, m in operator.members("web").items() if m["Hash"] == old)
        operator.kill(member["ID"])
        operator.until(
            lambda: operator.members("web").get(slot, member)["ID"] != member["ID"], "healed in the old version"
        )
        assert operator.members("web")[slot]["Hash"] == old


def _of_version(operator: Operator, version: str) -> int:
    return sum(m["Hash"] == version for m in operator.members("web").values())


def test_scaling_down_while_creating_stops_creating(operator: Operator) -> None:
    slow = 'sleep 0.2; echo "$INFRAKIT_INSTANCE_ID" >>"$BORN"; exec sleep 1000'
    properties = {"Environment": {"BORN": str(operator.home / "born")}}
    health = {"Command": "sleep 0.5", "Interval": "100ms"}
    big = cattle("web", 50, init=slow, in_flight=1, instance=properties, Health=health)
    operator.up(cattle("web", 0, init=slow, in_flight=1, instance=properties, Health=health))
    operator.commit(big, wait=False)
    operator.until(lambda: len(operator.members("web")) >= 5, "some instances exist")
    operator("group", "scale", "web", "5", "--wait=55s")
    assert len(operator.members("web")) == 5
    assert len(operator.processes()) >= 5
