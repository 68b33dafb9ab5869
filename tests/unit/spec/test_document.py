"""Documents of both formats yield the same groups, and every problem is reported with its path and line."""

import json
from typing import Any

import pytest

from infrakit.spec import document
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.group import Group, OnFailure, Updating

GOOD = """\
# two groups
- kind: group
  metadata: {name: workers, tags: {tier: web}}
  properties:
    Allocation: {Size: 3}
    Instance: {Plugin: local, Properties: {note: v1}}
    Flavor: {Plugin: vanilla, Properties: {Init: ["echo hi"]}}
- kind: group
  metadata: {name: pets}
  properties:
    Allocation: {LogicalIDs: [10.0.0.1, 10.0.0.2]}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla}
"""

# One group whose parts a test replaces; the lines are those of the text.
GROUP = """\
- kind: group
  metadata: {name: workers}
  properties:
    Allocation: {Size: 3}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla}
"""


def one(text: str | bytes) -> Group:
    (group,) = document.parse(text, source="test")
    return group


def problems_of(text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(InvalidSpec) as refused:
        document.parse(text, source="deploy.yaml")
    assert refused.value.where == "deploy.yaml"
    return refused.value.problems


def problem_of(text: str | bytes) -> Problem:
    (problem,) = problems_of(text)
    return problem


def original(properties: dict[str, Any], plugin: str = "group") -> str:
    return json.dumps([{"Plugin": plugin, "Properties": {"ID": "workers", "Properties": properties}}])


BASE: dict[str, Any] = {
    "Allocation": {"Size": 3},
    "Instance": {"Plugin": "local"},
    "Flavor": {"Plugin": "vanilla"},
}


def test_groups_are_read_from_a_yaml_document() -> None:
    workers, pets = document.parse(GOOD, source="test")
    assert (workers.name, workers.tags, workers.is_pets) == ("workers", {"tier": "web"}, False)
    assert workers.properties.allocation.size == 3
    assert bytes(workers.properties.instance.properties) == b'{"note":"v1"}'
    assert workers.properties.updating.settle == "10s"
    assert (pets.name, pets.tags, pets.is_pets) == ("pets", {}, True)
    assert pets.properties.allocation.logical_ids == ("10.0.0.1", "10.0.0.2")
    assert bytes(pets.properties.instance.properties) == b"null"


@pytest.mark.parametrize("plugin", ["group", "group/groups", "group-stateless"])
def test_the_format_of_the_original_declares_the_same(plugin: str) -> None:
    assert one(original(BASE, plugin)) == one(GROUP)


def test_formats_may_be_mixed_in_one_document() -> None:
    mixed = GROUP + "- " + original(BASE)[1:-1].replace("workers", "others")
    assert [g.name for g in document.parse(mixed, source="test")] == ["workers", "others"]


def test_the_original_addresses_a_group_by_its_kind_too() -> None:
    assert one(GROUP.replace("workers", "group/workers")).name == "workers"


def test_one_mapping_is_read_as_a_list_of_one() -> None:
    alone = "\n".join(line[2:] for line in GROUP.splitlines())
    assert one(alone) == one(GROUP)
    assert one(original(BASE)[1:-1]) == one(GROUP)


def test_several_yaml_documents_are_one_declaration() -> None:
    text = f"---\n{GROUP}---\n# nothing\n---\n{GROUP.replace('workers', 'others')}...\n"
    assert [g.name for g in document.parse(text, source="test")] == ["workers", "others"]
    bad = text.replace("name: others", "name: others, tag: 1")
    assert (problem_of(bad).path, problem_of(bad).line) == ("groups[1].metadata.tag", 12)


def test_version_is_accepted_and_must_be_text() -> None:
    assert one(GROUP.replace("kind: group", "kind: group\n  version: Group/0.1.1")) == one(GROUP)
    assert problem_of(GROUP.replace("kind: group", "kind: group\n  version: 1")).path == "groups[0].version"


def test_nulls_are_absent_fields_except_in_the_properties_of_plugins() -> None:
    text = original(
        {
            "Allocation": {"Size": 3, "LogicalIDs": None},
            "Instance": {"Plugin": "local", "Properties": None, "MaxInFlight": None},
            "Flavor": {"Plugin": "vanilla", "Properties": None},
            "Updating": {"Duration": None, "Count": None, "SkipBeforeInstanceDestroy": None, "Settle": None},
            "Healing": None,
        }
    )
    assert one(text) == one(GROUP)
    kept = one(GROUP.replace("Plugin: local", "Plugin: local, Properties: {a: null}"))
    assert bytes(kept.properties.instance.properties) == b'{"a":null}'


def test_the_originals_zero_values_are_absent_fields() -> None:
    pets = {"Allocation": {"Size": 0, "LogicalIDs": ["a"]}}
    assert one(original({**BASE, **pets})).properties.allocation.logical_ids == ("a",)
    cattle = {"Allocation": {"Size": 2, "LogicalIDs": []}}
    assert one(original({**BASE, **cattle})).properties.allocation.size == 2
    unset = {"Updating": {"Duration": "0s", "Count": 0, "SkipBeforeInstanceDestroy": None}}
    assert one(original({**BASE, **unset})) == one(GROUP)


def test_size_zero_declares_an_empty_group() -> None:
    assert one(GROUP.replace("Size: 3", "Size: 0")).properties.allocation.size == 0


@pytest.mark.parametrize(
    ("text", "settle", "drain"),
    [
        ("{}", "10s", True),
        ("{Duration: 1m30s}", "1m30s", True),
        ("{Count: 3}", "30s", True),
        ("{SkipBeforeInstanceDestroy: drain}", "10s", False),
        ("{Settle: 0s, Duration: 0s, Drain: true}", "0s", True),
        ("{Settle: 5s, Drain: false, SkipBeforeInstanceDestroy: null}", "5s", False),
    ],
)
def test_the_originals_fields_for_updating(text: str, settle: str, drain: bool) -> None:
    updating = one(GROUP + f"    Updating: {text}\n").properties.updating
    assert (updating.settle, updating.drain) == (settle, drain)


def test_policies_are_read() -> None:
    baking = one(GROUP + "    Updating: {Canary: 10%, BakeTime: 5m, ProgressDeadline: 10m, Settle: 1s}\n")
    updating = baking.properties.updating
    assert (updating.canary, updating.bake_time, updating.progress_deadline) == ("10%", "5m", "10m")
    assert one(GROUP + "    Updating: {Canary: null, BakeTime: null}\n").properties.updating == Updating()
    group = one(
        GROUP + "    Updating: {MaxUnavailable: 40%, MaxSurge: 2, OnFailure: rollback}\n"
        "    Healing: {MaxUnhealthy: 1, BootGrace: 2m}\n"
    )
    assert group.properties.updating.max_unavailable == "40%"
    assert group.properties.updating.on_failure is OnFailure.ROLLBACK
    assert group.properties.healing.max_unhealthy == 1


MEMBERS = "known here: "
NAME = 'a name of 1 to 63 letters, digits, "-", "_" and ".", that begins with a letter or digit'

WRONG = [
    # what is replaced, by what, path, line, message, hint
    ("Size: 3", "Size: -1", "Allocation.Size", 4, "found -1, expected an integer from 0 to 100000", ""),
    ("Size: 3", "Size: three", "Allocation.Size", 4, 'found "three", expected an integer from 0 to 100000', ""),
    ("Size: 3", "Size: 3.0", "Allocation.Size", 4, "found 3.0, expected an integer from 0 to 100000", ""),
    ("Size: 3", "Size: true", "Allocation.Size", 4, "found true, expected an integer from 0 to 100000", ""),
    (
        "{Size: 3}", "{}", "Allocation", 4,
        "found neither Size nor LogicalIDs, expected exactly one", "Size for cattle, LogicalIDs for pets",
    ),
    (
        "Size: 3", "Size: 3, LogicalIDs: [a]", "Allocation", 4,
        "found both Size and LogicalIDs, expected exactly one", "Size for cattle, LogicalIDs for pets",
    ),
    (
        "{Size: 3}", "\n      LogicalIDs:\n      - a\n      - b\n      - a", "Allocation.LogicalIDs[2]", 8,
        'the logical ID "a" is already LogicalIDs[0]', "a logical ID has at most one instance",
    ),
    (
        "Size: 3", "LogicalIDs: [a, 7]", "Allocation.LogicalIDs[1]", 4,
        "found 7, expected text from 1 to 255 characters", "put it in quotes",
    ),
    (
        "Size: 3", 'LogicalIDs: [""]', "Allocation.LogicalIDs[0]", 4,
        'found "", expected text from 1 to 255 characters', "",
    ),
    ("Allocation:", "allocation:", "allocation", 4, "unknown field", 'did you mean "Allocation"?'),
    ("Allocation:", "Alocation:", "Alocation", 4, "unknown field", 'did you mean "Allocation"?'),
    ("Size:", "size:", "Allocation.size", 4, "unknown field", 'did you mean "Size"?'),
    ("Size: 3", "Size: 3, Zebra: 1", "Allocation.Zebra", 4, "unknown field", "known here: Size, LogicalIDs"),
    ("Size: 3", "Size: 3, Zebra: null", "Allocation.Zebra", 4, "unknown field", "known here: Size, LogicalIDs"),
    ("    Flavor: {Plugin: vanilla}\n", "", "Flavor", 3, "missing: this field is required", ""),
    ("Flavor: {Plugin: vanilla}", "Flavor:", "Flavor", 6, "missing: this field is required", ""),
    ("Plugin: vanilla", "", "Flavor.Plugin", 6, "missing: this field is required", ""),
    ("Plugin: vanilla", 'Plugin: ""', "Flavor.Plugin", 6, 'found "", expected text that is not empty', ""),
    ("{Plugin: local}", "local", "Instance", 5, 'found "local", expected a mapping', ""),
    (
        "Plugin: local", "Plugin: local, MaxInFlight: 0", "Instance.MaxInFlight", 5,
        "found 0, expected an integer from 1 to 10000", "",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_problems_in_the_properties_are_reported(case: tuple[str, str, str, int, str, str]) -> None:
    old, new, path, line, message, hint = case
    assert old in GROUP
    expected = Problem(path=f"groups[0].properties.{path}", line=line, message=message, hint=hint)
    assert problem_of(GROUP.replace(old, new)) == expected


PROGRESS = "it begins again with each new instance that becomes healthy, and with each that stays healthy"
UPDATING_WRONG = [
    ("{Settle: 10}", "Settle", 'found 10, expected a duration such as "1m30s"', ""),
    ("{Settle: soon}", "Settle", 'found "soon", expected a duration such as "1m30s"', ""),
    ("{Duration: soon}", "Duration", 'found "soon", expected a duration such as "1m30s"', ""),
    ("{Count: -1}", "Count", "found -1, expected an integer of at least 0", ""),
    ("{SkipBeforeInstanceDestroy: all}", "SkipBeforeInstanceDestroy", 'found "all", expected "drain"', ""),
    ("{duration: 1s}", "duration", "unknown field", 'did you mean "Duration"?'),
    ("{OnFailure: stop}", "OnFailure", 'found "stop", expected one of "pause", "rollback"', ""),
    (
        "{Canary: -1}", "Canary",
        'found -1, expected an integer of at least 0 or a percentage such as "40%"', "",
    ),
    ("{BakeTime: long}", "BakeTime", 'found "long", expected a duration such as "1m30s"', ""),
    ("{Bake: 1m}", "Bake", "unknown field", 'did you mean "BakeTime"?'),
    ("{ProgressDeadline: 10}", "ProgressDeadline", 'found 10, expected a duration such as "1m30s"', ""),
    ("{ProgressDeadline: 0s}", "ProgressDeadline", "found 0s, expected more than Settle (10s)", PROGRESS),
    ("{Settle: 1m, ProgressDeadline: 1m}", "ProgressDeadline", "found 1m, expected more than Settle (1m)", PROGRESS),
    ("{Count: 6, ProgressDeadline: 1m}", "ProgressDeadline", "found 1m, expected more than Count (60s)", PROGRESS),
    ("{Duration: 2m, ProgressDeadline: 1m}", "ProgressDeadline",
     "found 1m, expected more than Duration (2m)", PROGRESS),
    (
        "{BakeTime: 10m, ProgressDeadline: 5m}", "ProgressDeadline",
        "found 5m, expected more than BakeTime (10m)", PROGRESS,
    ),
    (
        "{MaxSurge: 140%}", "MaxSurge",
        'found "140%", expected an integer of at least 0 or a percentage such as "40%"', "",
    ),
    (
        "{MaxUnavailable: 0}", "MaxUnavailable",
        "found MaxUnavailable and MaxSurge both 0, expected one above 0", "otherwise no update could begin",
    ),
    (
        "{MaxUnavailable: 0%, MaxSurge: 0%}", "MaxUnavailable",
        "found MaxUnavailable and MaxSurge both 0, expected one above 0", "otherwise no update could begin",
    ),
    ("{Settle: 1s, Duration: 2s}", "Duration", "Settle and Duration are the same setting", "keep Settle"),
    ("{Settle: 1s, Count: 2}", "Count", "Settle and Count are the same setting", "keep Settle"),
    ("{Duration: 1s, Count: 2}", "Count", "Duration and Count are the same setting", "keep Duration"),
    (
        "{Drain: true, SkipBeforeInstanceDestroy: drain}", "SkipBeforeInstanceDestroy",
        "Drain and SkipBeforeInstanceDestroy are the same setting", "keep Drain",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message", "hint"), UPDATING_WRONG)
def test_problems_in_updating_are_reported(text: str, path: str, message: str, hint: str) -> None:
    expected = Problem(path=f"groups[0].properties.Updating.{path}", line=7, message=message, hint=hint)
    assert problem_of(f"{GROUP}    Updating: {text}\n") == expected


@pytest.mark.parametrize(
    ("text", "path", "found", "hint"),
    [
        ("{Backoff: 2m, BackoffMax: 1m30s}", "Backoff", "Backoff 2m and BackoffMax 1m30s", ""),
        ("{Backoff: 1h}", "Backoff", "Backoff 1h and BackoffMax 5m", "the omitted one has its default"),
        ("{BackoffMax: 1s}", "BackoffMax", "Backoff 5s and BackoffMax 1s", "the omitted one has its default"),
    ],
)
def test_backoff_must_not_exceed_backoff_max(text: str, path: str, found: str, hint: str) -> None:
    message = f"found {found}, expected Backoff to be the shorter"
    expected = Problem(path=f"groups[0].properties.Healing.{path}", line=7, message=message, hint=hint)
    assert problem_of(f"{GROUP}    Healing: {text}\n") == expected
    assert one(f"{GROUP}    Healing: {{Backoff: 5m}}\n").properties.healing.backoff == "5m"
    misspelt = problem_of(f"{GROUP}    Healing: {{Backoff: soon}}\n")
    assert misspelt.message.startswith('found "soon", expected a duration')


def test_pets_cannot_surge() -> None:
    text = GROUP.replace("Size: 3", "LogicalIDs: [a]") + "    Updating:\n      MaxSurge: 1\n"
    problem = problem_of(text)
    assert (problem.path, problem.line) == ("groups[0].properties.Updating.MaxSurge", 8)
    assert problem.message == "expected 0 for pets"
    assert one(text.replace("MaxSurge: 1", "MaxSurge: 0%")).is_pets


ENTRY_WRONG = [
    ("kind: group", "kind: pool", "kind", 1, 'found "pool", expected "group"', ""),
    ("kind: group", "kind: group\n  options: {}", "options", 2, "unknown field", 'did you mean "version"?'),
    ("  metadata: {name: workers}\n", "", "metadata", 1, "missing: this field is required", ""),
    ("{name: workers}", "{}", "metadata.name", 2, "missing: this field is required", ""),
    ("name: workers", "name: 1", "metadata.name", 2, "found 1, expected text", "put it in quotes"),
    ("name: workers", "name: a/b", "metadata.name", 2, f'found "a/b", expected {NAME}', ""),
    ("name: workers", "name: ..", "metadata.name", 2, f'found "..", expected {NAME}', ""),
    ("name: workers", 'name: ""', "metadata.name", 2, f'found "", expected {NAME}', ""),
    ("name: workers", "name: " + 64 * "a", "metadata.name", 2, f'found "{64 * "a"}", expected {NAME}', ""),
    ("name: workers", "nam: workers", "metadata.nam", 2, "unknown field", 'did you mean "name"?'),
    ("name: workers", "name: a, tags: {b: 1}", "metadata.tags.b", 2, "found 1, expected text", "put it in quotes"),
    (
        "name: workers", "name: a, tags: {infrakit.group: b}", 'metadata.tags["infrakit.group"]', 2,
        'the prefix "infrakit." is reserved for tags that InfraKit sets itself', "choose another name",
    ),
    (
        "name: workers", "name: a, tags: {InfraKit.x: b}", 'metadata.tags["InfraKit.x"]', 2,
        'the prefix "infrakit." is reserved for tags that InfraKit sets itself', "choose another name",
    ),
    ("properties:", "Properties:", "Properties", 3, "unknown field", 'did you mean "properties"?'),
]  # fmt: skip


@pytest.mark.parametrize("case", ENTRY_WRONG)
def test_problems_outside_the_properties_are_reported(case: tuple[str, str, str, int, str, str]) -> None:
    old, new, path, line, message, hint = case
    assert old in GROUP
    found = problem_of(GROUP.replace(old, new))
    assert (found.path, found.line, found.message) == (f"groups[0].{path}", line, message)
    if "unknown" not in message or "did you mean" in found.hint:
        assert found.hint == hint


def test_paths_have_the_spelling_of_the_document() -> None:
    wrong = {**BASE, "Allocation": {"Size": -1}}
    pretty = json.dumps(json.loads(original(wrong)), indent=2)
    problem = problem_of(pretty)
    assert problem.path == "groups[0].Properties.Properties.Allocation.Size"
    assert pretty.splitlines()[(problem.line or 0) - 1].strip() == '"Size": -1'
    assert problem_of(original(BASE, "pool")).path == "groups[0].Plugin"
    assert problem_of(original(BASE).replace('"ID"', '"Id"')).path == "groups[0].Properties.Id"
    lower = original(BASE).replace('"Plugin": "group"', '"plugin": "group"')
    assert problem_of(lower).hint == 'did you mean "Plugin"?'


def test_a_duplicate_group_name_is_refused() -> None:
    problem = problem_of(GROUP + GROUP)
    assert problem == Problem(
        path="groups[1].metadata.name",
        line=8,
        message='a group named "workers" is already groups[0]',
        hint="choose another name",
    )


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines() -> None:
    text = (
        GROUP.replace("workers", "w/w")
        .replace("Size: 3", "Size: -3")
        .replace("Plugin: vanilla", "Plugin: vanilla, X: 1")
        + "    Updating: {MaxUnavailable: 0}\n"
        + GROUP.replace("kind: group", "kind: grp").replace("{Plugin: local}", "[]")
        + "- 5\n"
    )
    assert [(p.line, p.path) for p in problems_of(text)] == [
        (2, "groups[0].metadata.name"),
        (4, "groups[0].properties.Allocation.Size"),
        (6, "groups[0].properties.Flavor.X"),
        (7, "groups[0].properties.Updating.MaxUnavailable"),
        (8, "groups[1].kind"),
        (12, "groups[1].properties.Instance"),
        (14, "groups[2]"),
    ]


def test_the_error_message_has_a_line_for_the_problem() -> None:
    with pytest.raises(InvalidSpec) as refused:
        document.parse(GROUP.replace("Size", "Sise"), source="deploy.yaml")
    line = 'deploy.yaml: line 4: groups[0].properties.Allocation.Sise: unknown field (did you mean "Size"?)'
    assert str(refused.value) == line


def test_a_value_that_may_be_secret_is_not_shown() -> None:
    text = GROUP.replace("name: workers", "name: workers, tags: {db_password: 12345}")
    assert "12345" not in str(problem_of(text))


@pytest.mark.parametrize("text", ["", "   \n", "# only a comment", "---\n---\n", "[]", "null", "\ufeff"])
def test_an_empty_document_is_refused(text: str) -> None:
    assert problem_of(text).message == "the document is empty"


def test_problems_of_a_plugin_are_reported_with_their_lines() -> None:
    text = GROUP.replace(
        "{Plugin: vanilla}",
        "\n      Plugin: vanilla\n      Properties:\n        Init:\n        - one\n        - two\n        "
        "Tags: {a.b: c}",
    )
    found = [
        Problem(path="Init[1]", message="bad line", hint="another"),
        Problem(path='Tags["a.b"]', message="bad tag"),
        Problem(path="Tags.a.b", message="spelled by a stranger"),
        Problem(path="Nowhere[7].x", message="missing"),
        Problem(path="", message="all of it"),
    ]
    draft = document.read(text, source="s")
    place = "groups[0].properties.Flavor.Properties"
    located = draft.locate(found, draft.parts[0], under="Flavor")
    assert [(p.path, p.line, p.message, p.hint) for p in located] == [
        (f"{place}.Init[1]", 11, "bad line", "another"),
        (f'{place}.Tags["a.b"]', 12, "bad tag", ""),
        (f"{place}.Tags.a.b", 12, "spelled by a stranger", ""),
        (f"{place}.Nowhere[7].x", 8, "missing", ""),
        (place, 8, "all of it", ""),
    ]


def test_problems_of_a_plugin_in_the_originals_format() -> None:
    draft = document.read(original(BASE), source="s")
    (located,) = draft.locate([Problem(path="note", message="bad")], draft.parts[0], under="Instance")
    assert located.path == "groups[0].Properties.Properties.Instance.Properties.note"


def test_a_missing_plugin_is_reported_at_its_name() -> None:
    draft = document.read(GROUP, source="s")
    found = [Problem(path="", message="no such plugin")]
    (located,) = draft.locate(found, draft.parts[0], under="Flavor", field="Plugin")
    assert (located.path, located.line) == ("groups[0].properties.Flavor.Plugin", 6)


def test_plugins_can_check_the_valid_parts_of_an_invalid_group() -> None:
    draft = document.read(GROUP.replace("Size", "Sise").replace("name: workers", "nam: workers"), source="s")
    assert (draft.groups, len(draft.problems)) == ([], 2)
    (part,) = draft.parts
    assert (part.instance is None, part.flavor is None, part.allocation is None) == (False, False, True)


def test_a_rendered_document_is_read_back() -> None:
    groups = document.parse(GOOD, source="test")
    text = document.render(groups)
    assert document.parse(text, source="again") == groups
    assert json.loads(text)[0]["metadata"] == {"name": "workers", "tags": {"tier": "web"}}
    assert '"OnFailure": "pause"' in text
