"""Declaring, changing and undoing: the commands of an operator and the resulting instances."""

import json

import yaml

from tests.journeys.operator import Operator, cattle, pets


def test_a_declared_group_is_created_and_converges(operator: Operator) -> None:
    operator.up(cattle("web", 2), pets("db", "a b"))
    operator.converged()
    status = operator("status")
    assert "web    cattle  2     2     2        2" in status
    assert "db     pets    2     2     2        2" in status
    assert "doc.json changes nothing in declaration " in operator("plan", "doc.json")
    assert len(operator.processes()) == 4
    assert [m["State"] for m in operator.members("web").values()] == ["running", "running"]
    assert "converged" in operator("group", "ls")
    assert "the provider lists it" in operator("group", "describe", "db")


def test_invalid_documents_are_refused_with_all_problems(operator: Operator) -> None:
    wrong = """\
- kind: group
  metadata: {name: web}
  properties:
    Allocation: {Size: -1}
    Instance: {Plugin: locla}
    Flavor: {Plugin: vanilla, Properties: {Intt: x}}
    Helaing: {}
- kind: group
  metadata: {name: web}
  properties:
    Allocation: {LogicalIDs: [a, a]}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla}
"""
    (operator.home / "wrong.yaml").write_text(wrong)
    for command in (("validate", "wrong.yaml"), ("up", "wrong.yaml")):
        output = operator(*command, exits=1)
        assert "line 4: groups[0].properties.Allocation.Size" in output.replace("wrong.yaml: ", "")
        assert "Helaing" in output
        assert 'did you mean "Healing"' in output
        assert "LogicalIDs[1]" in output
    assert not (operator.home / "home" / "store").exists()
    assert "1 group" in operator("validate", operator.write(cattle("web", 1)))
    assert "nowhere.yaml" in operator("validate", "nowhere.yaml", exits=1)
    plugins = operator("validate", operator.write(cattle("web", 1, plugin="locla")), exits=1)
    assert 'did you mean "local"?' in plugins


def test_a_commit_is_planned_first_and_then_applied(operator: Operator) -> None:
    operator.up(cattle("web", 1))
    operator.converged()
    planned = operator("plan", operator.write(cattle("web", 3), cattle("new", 1)))
    assert "+" in planned
    assert "web.Allocation.Size: 1 -> 3" in planned
    assert operator.group("web")["Want"] == 1
    output = operator.commit(cattle("web", 3), cattle("new", 1))
    assert "Committed doc.json: declaration " in output
    assert len(operator.members("web")) == 3
    assert len(operator.members("new")) == 1
    operator.commit(cattle("web", 1))
    assert sorted(operator.members("web")) == ["1"]
    assert len(operator.processes()) == 2
    assert "No changes" in operator.commit(cattle("web", 1))


def test_a_group_is_scaled_and_a_conflicting_change_is_refused(operator: Operator) -> None:
    operator.up(cattle("web", 1), pets("db", "a"))
    operator.converged()
    operator("group", "scale", "web", "4", "-m", "launch", "--expect", "1", "--wait=30s")
    assert len(operator.members("web")) == 4
    conflict = operator("group", "scale", "web", "2", "--expect", "1", exits=2)
    assert "Size: 1 -> 4" in conflict
    assert "by ann: launch" in conflict
    assert "logical IDs" in operator("group", "scale", "db", "3", exits=2)
    assert "no group 'wbe'" in operator("group", "scale", "wbe", "3", exits=1)
    assert "-1" in operator("group", "scale", "web", "--", "-1", exits=1)


def test_history_is_stored_and_an_earlier_version_can_be_restored(operator: Operator) -> None:
    operator.up(cattle("web", 1))
    operator.commit(cattle("web", 3))
    operator("group", "scale", "web", "2", "-m", "less")
    history = operator("history")
    rows = [line.split() for line in history.splitlines()[1:]]
    changes = [row for row in rows if row[4] != "proven"]  # InfraKit's own
    assert [row[4] for row in changes] == ["scale", "commit", "commit"]
    assert [row[0] for row in rows] == [str(number) for number in range(len(rows), 0, -1)]
    assert "less" in history
    second = changes[1][0]
    shown = json.loads(operator("history", "--show", second))
    assert shown[0]["properties"]["Allocation"] == {"Size": 3}
    operator("restore", second, "-m", "it was better", "--wait=30s")
    assert len(operator.members("web")) == 3
    assert "no version 77" in operator("restore", "77", "-m", "x", exits=1)


def test_a_commit_from_an_old_file_needs_consent(operator: Operator) -> None:
    operator.up(cattle("web", 5))
    operator.converged()
    old = operator.write(cattle("web", 1), name="old.json")
    assert "! needs consent: it would destroy" in operator("plan", old)
    refusal = " ".join(operator("commit", old, exits=2).split())
    assert "4 of 5 members of the group web (without consent at most 2)" in refusal
    assert "infrakit commit old.json --destroys 4" in refusal
    operator("commit", old, "--destroys", "3", exits=2)
    assert operator.group("web")["Want"] == 5
    assert operator.end_daemon() == 0
    refusal = " ".join(operator("up", old, exits=2).split())
    assert "infrakit up old.json --destroys 4" in refusal
    operator.up(cattle("web", 1), options=("--destroys", "4"))
    operator.converged()
    (left,) = operator.members("web").values()
    operator("instance", "destroy", left["ID"], "--no-replace", "-m", "no quorum")


def test_other_logical_ids_of_a_quorum_replace_one_member_at_a_time(operator: Operator) -> None:
    operator.up(pets("db", "a b c", Quorum=True))
    operator.converged()
    renamed = operator.write(pets("db", "d e f", Quorum=True), name="renamed.json")
    assert "3 of 3 members of the quorum db" in " ".join(operator("commit", renamed, exits=2).split())
    operator("commit", renamed, "--destroys", "3", "--wait=120s")
    assert set(operator.members("db")) == {"d", "e", "f"}
    healthy = dict[str, str]()
    for line in operator("events", "-o", "json").splitlines():
        event = json.loads(line)
        if event["Type"] == "healthy":
            healthy[event["Instance"]] = line
        elif event["Type"] == "destroying":
            assert len(healthy) == 4, f"{line} in {healthy}"
            del healthy[event["Instance"]]
    assert len(healthy) == 3
    for logical_id in "de":
        operator("instance", "destroy", logical_id, "--no-replace", "-m", "one too many")
        operator.converged()
    refusal = " ".join(operator("instance", "destroy", "f", "--no-replace", exits=2).split())
    assert "db.Allocation.LogicalIDs would be empty" in refusal
    assert "infrakit group destroy db" in refusal
    assert set(operator.members("db")) == {"f"}


def test_every_query_has_json_and_yaml_output(operator: Operator) -> None:
    operator.up(cattle("web", 1), pets("db", "a"))
    operator.converged()
    for line in ("status", "group ls", "group describe web", "instance ls", "history", "why web", "plan doc.json"):
        from_json = operator.ask(*line.split())
        from_yaml = yaml.safe_load(operator(*line.split(), "-o", "yaml"))
        assert from_json
        assert type(from_yaml) is type(from_json)
    events = [json.loads(line) for line in operator("events", "-o", "json").splitlines()]
    assert [e["Seq"] for e in events] == list(range(1, len(events) + 1))
    since = [json.loads(line)["Seq"] for line in operator("events", "--since", "3", "-o", "json").splitlines()]
    assert since[0] == 4


def test_without_a_daemon_commands_report_how_to_start_one(operator: Operator) -> None:
    for words in (("status",), ("group", "ls"), ("events",), ("down", "--yes"), ("why", "x"), ("halt", "-m", "x")):
        assert "infrakit up" in operator(*words, exits=3)
