"""Paths in trees: names, indexes and searches, read as the original reads them."""

from typing import Any

import pytest

from infrakit.spi import paths

TREE: dict[str, Any] = {
    "a": {"b": 1, "no": False, "empty": {}},
    "l": [{"id": "x", "n": 7}, {"id": "y", "up": True}, [1, 2]],
    "10.0.0.1": "dotted",
}


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("", ()),
        (".", ()),
        ("/", ()),
        ("a/b", ("a", "b")),
        ("/a//b/", ("a", "b")),
        ("./a/./b", ("a", "b")),
        ("a/../l", ("l",)),
        ("../../a", ("a",)),
        ("l[2]/x", ("l", "[2]", "x")),
        ("l/[-1]", ("l", "[-1]")),
        ("l[id=x]/n", ("l", "[id=x]", "n")),
        ("l[at=10.0.0.0/24]", ("l", "[at=10.0.0.0/24]")),
    ],
)
def test_a_path_is_split_into_steps(path: str, steps: tuple[str, ...]) -> None:
    assert paths.split(path) == steps


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", TREE),
        ("a/b", 1),
        ("a/no", False),
        ("a/empty", {}),
        ("10.0.0.1", "dotted"),
        ("l[0]/id", "x"),
        ("l/[-1]/[1]", 2),
        ("l[id=y]/up", True),
        ("l[n=7]/id", "x"),
        ("l[up=true]/id", "y"),
    ],
)
def test_a_path_finds_its_value(path: str, value: object) -> None:
    assert paths.find(TREE, paths.split(path)) == value


@pytest.mark.parametrize("path", ["no", "a/b/c", "l[3]", "l[-4]", "l[id=z]", "l[zz=1]", "l/x", "a[0]", "a[b"])
def test_a_missing_path_finds_nothing(path: str) -> None:
    """An index out of range is not the first element."""
    assert paths.find(TREE, paths.split(path)) is None
    assert paths.keys(paths.find(TREE, paths.split(path))) is None


def test_keys_are_the_next_steps_of_a_path() -> None:
    assert paths.keys(TREE) == ["10.0.0.1", "a", "l"]
    assert paths.keys(TREE["l"]) == ["[0]", "[1]", "[2]"]
    assert paths.keys({}) == []
    assert paths.keys(0) == []
    assert paths.join(()) == "."
    assert paths.join(("a", "b")) == "a/b"


def test_a_missing_path_is_reported_with_the_nearest_name() -> None:
    assert str(paths.missing(("vars", "nane"), 1, ["name", "size"])).endswith("did you mean vars/name?")
    assert str(paths.missing(("vars", "q"), 1, ["name", "size"])).endswith("in vars is: name, size")
    assert str(paths.missing(("q",), 0, [])).endswith("there are: nothing")
