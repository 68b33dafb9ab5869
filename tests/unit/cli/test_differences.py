"""The changes of a commit, in human-readable form."""

import json

import pytest

from infrakit.cli import differences, tables
from infrakit.spi.manager import Change


def shown(**change: object) -> list[str]:
    path = str(change.pop("path", "web"))
    return list(differences.lines([Change(path=path, **{name: json.dumps(value) for name, value in change.items()})]))


def test_a_short_change_is_one_line() -> None:
    assert shown(path="web.Allocation.Size", old=3, new=5) == ["  ~ web.Allocation.Size: 3 -> 5"]
    assert shown(path="web.tags.a", new="b") == ['  + web.tags.a: "b"']
    assert shown(path="web.tags.a", old="b") == ['  - web.tags.a: "b"']


def test_a_new_group_is_shown_as_yaml() -> None:
    script = "#!/bin/sh\nexec sleep 1d\n"
    group = {"Allocation": {"Size": 3}, "Flavor": {"Plugin": "vanilla", "Properties": {"Init": script * 4}}}
    assert shown(new=group) == [
        "  + web:",
        "  +   Allocation:",
        "  +     Size: 3",
        "  +   Flavor:",
        "  +     Plugin: vanilla",
        "  +     Properties:",
        "  +       Init: |",
        *["  +         #!/bin/sh", "  +         exec sleep 1d"] * 4,
    ]
    assert shown(old=group)[:2] == ["  - web:", "  -   Allocation:"]


def test_a_changed_script_is_shown_as_a_line_diff() -> None:
    before, after = (f"#!/bin/sh\none\ntwo\n{word}\nfour\n" for word in ("three", "drei"))
    assert shown(path="web.Init", old=before, new=after) == [
        "  ~ web.Init:",
        "      ...",
        "         two",
        "      -  three",
        "      +  drei",
        "         four",
    ]


def test_values_are_shown_without_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "colours", lambda: False)
    text = "\n".join(shown(new={"Init": "a\nb\x1b[31m\x9b\n" * 40, "Ä": "ö"}))
    assert "Ä: ö" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_a_committed_group_is_one_line() -> None:
    parts = {"Instance": {"Plugin": "local"}, "Flavor": {"Plugin": "vanilla"}, "Updating": {"Settle": "10s"}}
    new = [
        Change(path="web", old=None, new=json.dumps({"Allocation": {"Size": 3}, **parts})),
        Change(path="db", old=None, new=json.dumps({"Allocation": {"LogicalIDs": ["a", "b"]}, **parts})),
        Change(path="store.Allocation.Size", old="1", new="2"),
    ]
    assert list(differences.brief(new)) == [
        "  + web: new group, 3 instances of local, flavor vanilla",
        "  + db: new group, 2 instances (a, b) of local, flavor vanilla",
        "  ~ store.Allocation.Size: 1 -> 2",
    ]
