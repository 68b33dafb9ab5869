"""Every declaration is rendered and read back, and reading any bytes yields groups or a refusal."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infrakit.spec import document, path
from infrakit.spi import group as spi_group
from infrakit.spi.errors import InvalidSpec
from infrakit.spi.group import seconds

numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
amounts = st.integers(1, 99) | st.integers(1, 100).map(lambda n: f"{n}%")
durations = st.sampled_from(["0", "1s", "1m30s", "2.5h", "10ms", "3µs"])
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


references = st.fixed_dictionaries({"Plugin": st.text("ab/", min_size=1, max_size=4)}, optional={"Properties": values})
updating = some(
    MaxUnavailable=amounts,
    Settle=durations,
    OnFailure=st.sampled_from(["pause", "rollback"]),
    Canary=amounts,
    BakeTime=durations,
    Drain=st.booleans(),
    DrainTimeout=durations,
)
healing = some(
    BootGrace=durations,
    UnhealthyAfter=durations,
    MaxUnhealthy=amounts | st.none(),
    Backoff=durations,
    BackoffMax=durations,
)
cattle = st.fixed_dictionaries({"Size": st.integers(0, 100_000)})
pets = st.fixed_dictionaries({"LogicalIDs": st.lists(text.filter(bool), max_size=5, unique=True)})


def _growing(healing: dict[str, Any]) -> bool:
    return seconds(healing.get("Backoff", "5s")) <= seconds(healing.get("BackoffMax", "5m"))


bodies = st.fixed_dictionaries(
    {"Allocation": cattle | pets, "Instance": references, "Flavor": references},
    optional={"Updating": updating, "Healing": healing.filter(_growing)},
)
tags = st.dictionaries(text.filter(lambda tag: not tag.lower().startswith("infrakit.")), text, max_size=3)


def _ours(name: str, tags: dict[str, str], properties: Any) -> Any:
    return {"kind": "group", "metadata": {"name": name, "tags": tags}, "properties": properties}


def _original(name: str, properties: Any) -> Any:
    return {"Plugin": "group", "Properties": {"ID": name, "Properties": properties}}


def _entry(name: str) -> st.SearchStrategy[Any]:
    return st.builds(_ours, st.just(name), tags, bodies) | st.builds(_original, st.just(name), bodies)


declarations = st.lists(names, min_size=1, max_size=4, unique=True).flatmap(
    lambda unique: st.tuples(*(_entry(name) for name in unique))
)


@given(declarations)
def test_a_rendered_declaration_is_read_back(declared: tuple[Any, ...]) -> None:
    groups = document.parse(json.dumps(declared), source="test")
    assert document.parse(document.render(groups), source="again") == groups
    assert [g.name for g in groups] == [
        e["metadata"]["name"] if "kind" in e else e["Properties"]["ID"] for e in declared
    ]


@given(declarations, st.data())
def test_a_misspelled_field_is_reported_in_any_declaration(declared: tuple[Any, ...], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(declared) - 1))
    entry = declared[index]
    at = ("properties",) if "kind" in entry else ("Properties", "Properties")
    body = entry[at[0]] if len(at) == 1 else entry[at[0]][at[1]]
    section = data.draw(st.sampled_from(sorted(body)))
    body[section]["Sizze"] = 1
    written = json.dumps(declared, indent=1)
    with pytest.raises(InvalidSpec) as refused:
        document.parse(written, source="test")
    (problem,) = refused.value.problems
    assert problem.path == path.join(("groups", index, *at, section, "Sizze"))
    assert written.splitlines()[(problem.line or 0) - 1].strip().startswith('"Sizze": 1')


def yields_groups_or_a_refusal(text: bytes | str) -> bool:
    """Whether reading yields groups, or a refusal with its problems; anything else raises an exception."""
    try:
        groups = document.parse(text, source="test")
    except InvalidSpec as refused:
        return bool(refused.problems) and "test: " in str(refused)
    return all(isinstance(group, spi_group.Group) for group in groups)


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf")
@example(b"- \xc2\x85")
def test_any_bytes_yield_groups_or_a_refusal(text: bytes) -> None:
    assert yields_groups_or_a_refusal(text)


@given(st.text(max_size=200) | st.text("[]{}:,-?&*!|>'\"%@` \n\t#a1.~<", max_size=60))
def test_any_text_yields_groups_or_a_refusal(text: str) -> None:
    assert yields_groups_or_a_refusal(text)


@given(values | st.lists(values, max_size=3))
def test_any_json_yields_groups_or_a_refusal(value: Any) -> None:
    assert yields_groups_or_a_refusal(json.dumps(value))


@given(declarations, st.data())
def test_any_value_anywhere_yields_groups_or_a_refusal(declared: tuple[Any, ...], data: st.DataObject) -> None:
    value: Any = declared[0]
    for _ in range(data.draw(st.integers(0, 4))):
        key = data.draw(st.sampled_from(sorted(value)))
        if not isinstance(value[key], dict) or not value[key]:
            break
        value = value[key]
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(values)
    assert yields_groups_or_a_refusal(json.dumps(declared))


@given(declarations, st.data())
def test_a_truncated_or_damaged_document_yields_groups_or_a_refusal(
    declared: tuple[Any, ...], data: st.DataObject
) -> None:
    text = bytearray(json.dumps(declared, indent=data.draw(st.sampled_from([None, 2]))).encode())
    position = data.draw(st.integers(0, len(text) - 1))
    text[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert yields_groups_or_a_refusal(bytes(text))


@given(st.lists(text | st.integers(0, 999), max_size=5).map(tuple))
def test_paths_are_joined_and_split_back(steps: path.Steps) -> None:
    assert path.split(path.join(steps)) == steps


@given(st.text(max_size=40))
def test_any_text_can_be_split_as_a_path(text: str) -> None:
    assert path.split(text) or not text
