"""The variables of `--var` and `--vars`."""

from pathlib import Path

import click
import pytest

from infrakit.cli import variables
from infrakit.spi.errors import InvalidSpec


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("true", True),
        ("false", False),
        ("007", "007"),
        ("-0", "-0"),
        ("+1", "+1"),
        ("1_000", "1_000"),
        ("1.10", "1.10"),
        ("9" * 30, "9" * 30),
        ("True", "True"),
        ("yes", "yes"),
        ("null", "null"),
        ("", ""),
        ("[1]", "[1]"),
        (" 7", " 7"),
    ],
)
def test_only_values_that_round_trip_are_parsed_as_numbers_or_booleans(text: str, value: object) -> None:
    found = variables.value(text)
    assert (type(found), found) == (type(value), value)


def test_a_value_may_contain_anything(tmp_path: Path) -> None:
    assert variables.tree(["a=b=c", "/x/y/=1", "e="], []) == {"a": "b=c", "x": {"y": 1}, "e": ""}


@pytest.mark.parametrize("given", ["a", "=b", "/=b", " =b", ""])
def test_an_argument_that_is_not_name_value_is_rejected(given: str) -> None:
    with pytest.raises(click.UsageError, match="is not NAME=VALUE"):
        variables.tree([given], [])


def test_later_values_win_and_trees_are_merged(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.json"
    first.write_text("cluster: {name: blue, size: 3}\nzones: [a, b]\ncluster/port: 1\nlevel: {deep: 1}\n")
    second.write_text('{"cluster": {"size": 5}, "zones": ["c"], "level": 2}')
    found = variables.tree(["cluster/name=red", "level/other=3"], [str(first), str(second)])
    assert found == {"cluster": {"name": "red", "size": 5, "port": 1}, "zones": ["c"], "level": {"other": 3}}


def test_a_template_can_read_a_value_or_its_whole_subtree() -> None:
    found = variables.flat({"cluster": {"name": "blue", "ports": {"peer": 1}}, "empty": {}})
    assert found == {
        "cluster": {"name": "blue", "ports": {"peer": 1}},
        "cluster/name": "blue",
        "cluster/ports": {"peer": 1},
        "cluster/ports/peer": 1,
        "empty": {},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", 'v.yaml: line 2: the key "a" is repeated, first on line 1'),
        ("- 1\n- 2\n", "v.yaml: found a list or a value, expected names with values"),
        ("just text", "v.yaml: found a list or a value, expected names with values"),
        ("a: [1\n", "v.yaml: line 2: "),
        ("/: 1\n", "v.yaml: found the name '/'"),
    ],
)
def test_an_invalid_file_is_reported_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSpec) as caught:
        variables.tree([], [str(path)])
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_an_empty_file_has_no_variables(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("# nothing yet\n")
    assert variables.tree([], [str(tmp_path / "v.yaml")]) == {}
    with pytest.raises(click.ClickException, match="no such file"):
        variables.tree([], [str(tmp_path / "w.yaml")])
