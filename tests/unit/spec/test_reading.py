"""How text is parsed, which text is refused, and that refusing it is cheap."""

import json
import tracemalloc
from typing import Any

import pytest

from infrakit.spec import reading, tree
from infrakit.spi.errors import InvalidSpec, Problem


def value(text: str | bytes) -> Any:
    """The value of the key `v` in a document of one mapping."""
    (entry,) = reading.read(text, source="test").entries
    return entry["v"]


def problem_of(text: str | bytes) -> Problem:
    with pytest.raises(InvalidSpec) as refused:
        reading.read(text, source="deploy.yaml")
    (problem,) = refused.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("y", "y"), ("1:30", "1:30"), ("2026-11-23", "2026-11-23"),
        ("1_000", "1_000"), ("010", 10), ("+5", 5), ("-3", -3), ("0x1F", 31), ("0o17", 15), ("1e3", 1000.0),
        (".5", 0.5), ("2.", 2.0), ("1.5", 1.5), ("true", True), ("False", False), ("tRUE", "tRUE"), ("", None),
        ("~", None), ("null", None), ("Null", None), ("nul", "nul"), ("'5'", "5"), ('"true"', "true"),
        ("1e", "1e"), ("0x", "0x"), ("0b1", "0b1"), ("10.0.0.1", "10.0.0.1"), ("!!str 5", "5"),
        ("9007199254740993", 9007199254740993), ("NaN", "NaN"), ("[1, a, {b: c}]", [1, "a", {"b": "c"}]),
        ("=", "="), ("|\n  a\n  b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_plain_yaml_is_parsed_by_the_core_schema(text: str, expected: Any) -> None:
    found = value(f"k: &a 1\nv: {text}")
    assert found == expected
    assert type(found) is type(expected)


def test_keys_keep_their_spelling() -> None:
    assert value("v: {80: a, true: b, 1.0: c, null: d, 'x': e}") == {
        "80": "a",
        "true": "b",
        "1.0": "c",
        "null": "d",
        "x": "e",
    }


def test_an_alias_repeats_its_anchor() -> None:
    assert value("a: &x [1, {b: 2}]\nc: &y z\nv: [*x, *y]") == [[1, {"b": 2}], "z"]


JSON = [
    '{"a": [1, -2.5e3, true, false, null, "x\\n\\u00e9\\ud83d\\ude00"], "b": {}, "c": []}',
    '[[], [[]], {"": ""}]',
    "{}",
    ' \r\n\t{"v" : 1 }\n',
    '{"big": 123456789012345678901234567890, "exp": 1E-7, "frac": 0.10, "z": 0}',
]


@pytest.mark.parametrize("text", JSON)
def test_json_is_parsed_like_the_json_module(text: str) -> None:
    expected = json.loads(text)
    assert reading.read(text, source="").entries == (expected if isinstance(expected, list) else [expected])


def test_json_is_parsed_by_the_rules_of_json_and_not_of_yaml() -> None:
    escapes = '{"v": "\\/ \\ud83d\\ude00"}'  # both would be errors of YAML
    assert value(escapes) == "/ 😀"
    assert value('\t{"v":\t"a"}') == "a"


def test_flow_style_yaml_that_looks_like_json_is_yaml() -> None:
    assert value("{v: a, # why\n b: [c,]}") == "a"


def test_lines_are_known_in_both_formats() -> None:
    text = '[\n{"a":\n  [1,\n\n   {"b": 2}]},\n{"c": 1}]'
    for document in (text, text.replace('"', "")):
        read = reading.read(document, source="")
        assert read.line((0,)) == 2
        assert read.line((0, "a")) == 2
        assert read.line((0, "a", 1)) == 5
        assert read.line((0, "a", 1, "b")) == 5
        assert read.line((0, "a", 1, "nowhere", 3)) == 5
        assert read.line((1, "c")) == 6
        assert read.line((9,)) is None
        assert reading.read("\n \n" + document, source="").line((0,)) == 4


REFUSED = [
    ("a: 1\n b: 2", 2, "not YAML: mapping values are not allowed", ""),
    ("a: [1, 2", 1, "not YAML: did not find expected ',' or ']'", ""),
    ("a: \x01", 1, "not YAML: control characters are not allowed", ""),
    ("a: 1\nb:\n\t- c", 3, "not YAML: found character that cannot start any token", ""),
    ('[{"a": 1,\n "b": x y z}}', 2, 'not JSON: found "x y z}}", expected a value', ""),
    ('["a\\q"]', 1, "not JSON: found text with a mistake (invalid \\escape", ""),
    ('["a\x01"]', 1, "not JSON: found text with a mistake (invalid control character", ""),
    ("[1]\n[2", 2, 'not JSON: found "[", expected the end', ""),
    ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", 5, 'the key "c" is repeated, first on line 3', "groups[0].b"),
    ('[{"a": 1,\n"b": 2,\n"a": 3}]', 3, 'the key "a" is repeated, first on line 1', "groups[0]"),
    ("a: 1\n'a': 2", 2, 'the key "a" is repeated, first on line 1', "groups[0]"),
    ("a:\n  b: !!python/object:os.system x", 2, "found the tag !!python/object:os.system, expected", "groups[0].a.b"),
    ("a: !!int '5'", 1, "found the tag !!int, expected a plain value", "groups[0].a"),
    ("a: !mine 5", 1, "found the tag !mine, expected a plain value", "groups[0].a"),
    ("!!set {a}", 1, "found the tag !!set, expected a plain value", ""),
    ("a: .nan", 1, "found .nan, expected a finite number", "groups[0].a"),
    ("a: -.INF", 1, "found -.INF, expected a finite number", "groups[0].a"),
    ("a: 1e999", 1, "found 1e999, expected a number of at most 1.8e308", "groups[0].a"),
    ('{"a": NaN}', 1, "found NaN, expected a finite number", "groups[0].a"),
    ("[1,\n-Infinity]", 2, "found -Infinity, expected a finite number", "groups[1]"),
    ("[1e999]", 1, "found 1e999, expected a number of at most 1.8e308", "groups[0]"),
    ("a: &x [*x]", 1, "the alias *x refers to a value that contains it", "groups[0].a[0]"),
    ("a: *x", 1, "found the alias *x, which no anchor before it defines", "groups[0].a"),
    ("a: &x 1\n---\nb: *x", 3, "found the alias *x, which no anchor before it defines", "groups[1].b"),
    ("? [a]\n: b", 1, "found a mapping or list as a key, expected a name", "groups[0]"),
    ("a: &x b\n*x : c", 2, "found an alias as a key, expected a name", "groups[0]"),
    ("a: {<<: {b: 1}}", 1, "found the merge key <<", "groups[0].a"),
    ("a: 1\nb: \0", 2, "found a NUL byte at offset 8", ""),
    ('{"a": "\\u0000"}', 1, "found a NUL character", "groups[0].a"),
    ('a: "\\0"', 1, "found a NUL character", "groups[0].a"),
    ('["\\ud800"]', 1, "found half of a surrogate pair", "groups[0]"),
    ("a: \ud800", None, "not Unicode: half of a surrogate pair at character 3", ""),
    (b"a: 1\nb: \xff", 2, "not UTF-8: found the byte 0xff at offset 8", ""),
    (b"\xef\xbb\xbfa: \xff", 1, "not UTF-8: found the byte 0xff at offset 6", ""),
    ("a: 1".encode("utf-16"), 1, "not UTF-8: found the byte 0xff at offset 0", ""),
    ("a: ü".encode("latin-1"), 1, "not UTF-8: found the byte 0xfc at offset 3", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message", "path"), REFUSED)
def test_invalid_text_is_refused_with_its_line(text: str | bytes, line: int | None, message: str, path: str) -> None:
    problem = problem_of(text)
    assert (problem.line, problem.path) == (line, path)
    assert problem.message.startswith(message)


def test_a_byte_order_mark_is_accepted() -> None:
    assert value(b"\xef\xbb\xbfv: 1") == 1
    assert value('\ufeff{"v": 1}') == 1


N = reading.BYTES_MAX - 100
BOMBS: dict[str, tuple[str | bytes, str]] = {
    "too many bytes": (b" " * (reading.BYTES_MAX + 1), "the document has 10,000,001 bytes"),
    "too many bytes as text": ("ü" * (N // 2 + 1000), "the document has 10,001,900 bytes"),
    "deep json": ("[" * N, "nested deeper than 64 levels"),
    "deep json mappings": ('{"a":' * (N // 5), "nested deeper than 64 levels"),
    "deep yaml flow": ("a: " + "{b: " * (N // 4), "nested deeper than 64 levels"),
    "deep yaml blocks": ("- " * (N // 2), "nested deeper than 64 levels"),
    "deep yaml aliases": (
        "a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(99)),
        "nested deeper than 64 levels, aliases expanded",
    ),
    "billion laughs": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{c}: &{c} [{','.join(['*' + b] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "more than 250,000 names and values, aliases expanded",
    ),
    "a long text many times": (
        "a: &a " + "x" * 3_000_000 + "\nb: [*a, *a, *a]",
        "more than 10 MB of text, aliases expanded",
    ),
    "many values": ("[" + "1," * (N // 2) + "1]", "more than 250,000 names and values"),
    "many yaml documents": ("---\n" * (N // 4), "more than 250,000 names and values"),
    "many directives": ("".join(f"%TAG !a{i}! tag:x\n" for i in range(400_000)) + "---\na", "more than 100 lines"),
    "many directives, other line ends": ("%TAG !a! b\r" * 400_000 + "---\na", "more than 100 lines"),
    "digits": ("[" + "9" * N + "]", "found 9"),
    "hexadecimal digits": ("a: 0x" + "f" * N, "found f"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_expand(name: str) -> None:
    text, message = BOMBS[name]
    tracemalloc.start()
    try:
        problem = problem_of(text)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem.message.startswith(message)
    assert len(str(problem)) < 1000
    # One decoded and one encoded copy, and the values that were created before the limit was reached.
    assert peak_bytes < 5 * len(text) + 60_000_000


@pytest.mark.no_cover  # which would take three times as long
def test_text_just_below_the_limits_is_accepted() -> None:
    deep = "[" * tree.DEPTH_MAX + "]" * tree.DEPTH_MAX
    assert reading.read(deep, source="").entries
    assert problem_of(f"[{deep}]").message.startswith("nested deeper")
    many = f"[{','.join('1' * (tree.VALUES_MAX - 1))}]"
    assert len(reading.read(many, source="").entries) == tree.VALUES_MAX - 1
    assert problem_of(many[:-1] + ",1]").message.startswith("more than")
