"""The configuration hash agrees with the original's and does not depend on spelling."""

import json
import math
import random
import re
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infrakit.spec import document
from infrakit.spec import hash as hashes
from infrakit.spi.group import FlavorRef, Group, InstanceRef

Json = Any


def of(instance: Json, flavor: Json, *, plugins: tuple[str, str] = ("a", "b")) -> str:
    return hashes.of(
        InstanceRef(plugin=plugins[0], properties=msgspec.Raw(json.dumps(instance).encode())),
        FlavorRef(plugin=plugins[1], properties=msgspec.Raw(json.dumps(flavor).encode())),
    )


@pytest.mark.parametrize(
    ("plugins", "instance", "flavor", "expected"),
    [
        (
            ("simulator/compute", "vanilla"),
            {"note": "v1"},
            {"Init": ["echo hi"], "Tags": {"tier": "web"}},
            "ee2c5ej6wc4ra52yr7tnyghwhqknqnte",
        ),
        (
            ("fake", "fake/sub/x"),
            {"b": 2, "a": "<x&y>"},
            {"Init": ["echo hi"]},
            "72b6w6pgqev5mjfodqsu3nbkpzqpw5x4",
        ),
    ],
)
def test_hashes_recorded_from_the_original(
    plugins: tuple[str, str], instance: Json, flavor: Json, expected: str
) -> None:
    assert of(instance, flavor, plugins=plugins) == expected


@pytest.mark.parametrize(
    ("number", "spelling"),
    [
        (1.0, "1"), (-1.5, "-1.5"), (0.0, "0"), (-0.0, "-0"), (1e20, "100000000000000000000"), (1e21, "1e+21"),
        (1.5e300, "1.5e+300"), (1e-6, "0.000001"), (1e-7, "1e-7"), (1.25e-10, "1.25e-10"), (123456.789, "123456.789"),
        (0.1, "0.1"), (9007199254740993.0, "9007199254740992"),
    ],
)  # fmt: skip
def test_numbers_are_formatted_as_in_go(number: float, spelling: str) -> None:
    assert hashes._go_number(number) == spelling


def test_numbers_are_floats_as_in_go() -> None:
    assert of({"a": 2**53}, {}) == of({"a": 2**53 + 1}, {}) != of({"a": 2**53 + 2}, {})
    raw = [InstanceRef(plugin="a", properties=msgspec.Raw(text)) for text in (b"-0", b"-0.0", b"0")]
    versions = [hashes.of(instance, FlavorRef(plugin="b")) for instance in raw]
    assert versions[0] == versions[1] != versions[2]
    groups = [group_of(json.dumps(declaration({"a": 1}, {})).replace('"a": 1', f'"a": {n}')) for n in ("-0", "-0.0")]
    assert groups[0] == groups[1]


def test_text_is_escaped_as_in_go() -> None:
    text = 'a<b>&"\\ \n\r\t\b\f\x01\x7f\u2028\u2029é😀 \\b'
    expected = '"a\\u003cb\\u003e\\u0026\\"\\\\ \\n\\r\\t\\u0008\\u000c\\u0001\x7f\\u2028\\u2029é😀 \\\\b"'
    assert hashes._go_text(text) == expected


def test_lists_and_mappings_are_indented_as_in_go() -> None:
    value = {"b": [1.0, [], {}], "a": {"c": None, "B": True}}
    lines = [
        "{",
        '  "a": {',
        '    "B": true,',
        '    "c": null',
        "  },",
        '  "b": [',
        "    1,",
        "    [],",
        "    {}",
        "  ]",
        "}",
    ]
    assert hashes._go(value, "\n  ") == "\n  ".join(lines)


def test_the_hash_covers_what_instances_are_created_from_and_not_the_size() -> None:
    text = """{kind: group, metadata: {name: a}, properties: {
      Allocation: {Size: 1}, Instance: {Plugin: x, Properties: {a: 1}}, Flavor: {Plugin: y}}}"""

    def version(old: str = "", new: str = "") -> str:
        return document.parse(text.replace(old, new) if old else text, source="")[0].hash

    assert version() == version("Size: 1", "Size: 9") == version("name: a", "name: b")
    assert version() == version("Plugin: x", "Plugin: x, MaxInFlight: 2")
    assert version() == version("Plugin: y}", "Plugin: y}, Updating: {MaxSurge: 1}, Healing: {Backoff: 1s}")
    assert version() == version("Plugin: y", "Plugin: y, Properties: null")
    others = [version("a: 1", "a: 2"), version("a: 1", "a: '1'"), version("Plugin: x", "Plugin: z")]
    others += [version("Plugin: y", "Plugin: z"), version("Plugin: y", "Plugin: y, Properties: {}")]
    assert len({version(), *others}) == 6


# Floats without a fraction are tested in all of their spellings.
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
properties = st.dictionaries(text, values, max_size=4)


def respelled(value: Json, rng: random.Random) -> str:
    """The same value as JSON text with other key order, spacing, escapes and numbers."""
    space = rng.choice(["", " ", "\n", "\t "])
    if isinstance(value, dict):
        members = [f"{respelled(k, rng)}{space}:{space}{respelled(v, rng)}" for k, v in value.items()]
        rng.shuffle(members)
        return "{" + space + f"{space},".join(members) + "}"
    if isinstance(value, list):
        return "[" + f",{space}".join(respelled(v, rng) for v in value) + space + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if isinstance(value, int | float) and not isinstance(value, bool):
        spellings = [json.dumps(value), f"{value!r}e0" if "e" not in repr(value) else repr(value)]
        if math.isfinite(value) and float(value).is_integer() and abs(value) < 2**53 and value != 0:
            spellings += [f"{int(value)}", f"{int(value)}.0", f"{int(value)}.00E+00"]
        return rng.choice(spellings)
    return json.dumps(value)


class _Quoting(yaml.SafeDumper):
    """Quotes every string, writes no aliases, and writes floats like Python."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Quoting.add_representer(str, lambda d, v: d.represent_scalar("tag:yaml.org,2002:str", v, style='"'))
_Quoting.add_representer(float, lambda d, v: d.represent_scalar("tag:yaml.org,2002:float", repr(v)))
_Quoting.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?$"), list("+-0123456789")
)


def as_yaml(value: Json) -> str:
    """The same value as block-style YAML."""
    return str(yaml.dump(value, Dumper=_Quoting, sort_keys=False, default_flow_style=False, width=1_000_000))


def declaration(instance: Json, flavor: Json) -> dict[str, Json]:
    return {
        "kind": "group",
        "metadata": {"name": "a"},
        "properties": {
            "Allocation": {"Size": 1},
            "Instance": {"Plugin": "x", "Properties": instance},
            "Flavor": {"Plugin": "y", "Properties": flavor},
        },
    }


def group_of(text: str) -> Group:
    (group,) = document.parse(text, source="test")
    return group


@given(properties, properties, st.randoms(use_true_random=False))
def test_the_hash_does_not_depend_on_the_spelling_of_json(instance: Json, flavor: Json, rng: random.Random) -> None:
    declared = declaration(instance, flavor)
    plain, other = group_of(json.dumps(declared)), group_of(" \n" + _entry(declared, rng))
    assert other.hash == plain.hash
    assert hashes.of_groups([other]) == hashes.of_groups([plain])


def _entry(declared: Json, rng: random.Random) -> str:
    """Only plugins' properties are respelled: a size is an integer."""
    body = declared["properties"]
    sections = [
        f'"{name}": {{"Properties": {respelled(body[name]["Properties"], rng)}, "Plugin": "{body[name]["Plugin"]}"}}'
        for name in ("Flavor", "Instance")
    ]
    inner = ", ".join([*sections, '"Allocation": {"Size": 1}'])
    return f'{{"properties": {{{inner}}}, "metadata": {{"name": "a"}}, "kind": "group"}}'


@given(properties, properties)
def test_yaml_and_json_declare_the_same_group_and_hash(instance: Json, flavor: Json) -> None:
    declared = declaration(instance, flavor)
    in_yaml, in_json = group_of("# said in YAML\n" + as_yaml(declared)), group_of(json.dumps(declared))
    assert in_yaml == in_json
    assert in_yaml.hash == in_json.hash


@given(properties, properties)
def test_different_values_have_different_hashes(one: Json, other: Json) -> None:
    def generic(value: Json) -> str:
        return json.dumps(json.loads(json.dumps(value), parse_int=float), sort_keys=True)

    assert (of(one, {}) == of(other, {})) is (generic(one) == generic(other))


def test_the_hash_of_a_declaration_covers_everything_but_the_order_of_groups() -> None:
    text = """
- {kind: group, metadata: {name: a}, properties: {Allocation: {Size: 1}, Instance: {Plugin: x}, Flavor: {Plugin: y}}}
- {kind: group, metadata: {name: b}, properties: {Allocation: {Size: 1}, Instance: {Plugin: x}, Flavor: {Plugin: y}}}
"""

    def declared(old: str = "", new: str = "") -> tuple[Group, ...]:
        return document.parse(text.replace(old, new, 1) if old else text, source="")

    first, second = declared()
    changed = [declared("Size: 1", "Size: 2"), declared("name: a", "name: a, tags: {t: u}"), (first,), ()]
    changed += [declared("Plugin: y", "Plugin: y, Properties: {n: 9007199254740993}")]
    changed += [declared("Plugin: y", "Plugin: y, Properties: {n: 9007199254740992}")]
    assert hashes.of_groups((second, first)) == hashes.of_groups((first, second))
    assert len({hashes.of_groups(groups) for groups in [declared(), *changed]}) == 7
    assert len(hashes.of_groups(())) == 64
