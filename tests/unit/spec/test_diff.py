"""The differences between two declarations, leaf by leaf."""

import json

from infrakit.spec import diff, document
from infrakit.spi.group import Group
from infrakit.spi.manager import Change

TEXT = """
- kind: group
  metadata: {name: workers, tags: {tier: web}}
  properties:
    Allocation: {Size: 3}
    Instance: {Plugin: local, Properties: {note: v1, ports: [1, 2], on: 1, "a.b": x}}
    Flavor: {Plugin: vanilla}
- kind: group
  metadata: {name: pets}
  properties:
    Allocation: {LogicalIDs: [a, b]}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla}
"""


def declared(*replaced: tuple[str, str]) -> tuple[Group, ...]:
    text = TEXT
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new, 1)
    return document.parse(text, source="test")


def changes(*replaced: tuple[str, str]) -> list[Change]:
    return list(diff.changes(declared(), declared(*replaced)))


def test_equal_declarations_have_no_changes() -> None:
    assert changes() == []
    assert diff.changes(declared(), declared()[::-1]) == ()


def test_an_explicit_default_is_no_change() -> None:
    assert changes(("    Flavor:", "    Updating: {MaxUnavailable: 1}\n    Flavor:"), ("on: 1", "on: 1.0")) == []


def test_changed_values() -> None:
    assert changes(("Size: 3", "Size: 5"), ("note: v1", "note: v2"), ("tier: web", "tier: db")) == [
        Change(path="workers.Allocation.Size", old="3", new="5"),
        Change(path="workers.Instance.Properties.note", old='"v1"', new='"v2"'),
        Change(path="workers.tags.tier", old='"web"', new='"db"'),
    ]


def test_added_and_removed_fields() -> None:
    assert changes(
        ("tags: {tier: web}", "tags: {zone: z}"), ("Plugin: vanilla", "Plugin: vanilla, Properties: {x: ü}")
    ) == [
        Change(path="workers.Flavor.Properties", old=None, new='{"x": "ü"}'),
        Change(path="workers.tags.tier", old='"web"', new=None),
        Change(path="workers.tags.zone", old=None, new='"z"'),
    ]


def test_lists_are_compared_by_element_only_if_they_have_the_same_length() -> None:
    assert changes(("[1, 2]", "[1, 3]")) == [Change(path="workers.Instance.Properties.ports[1]", old="2", new="3")]
    assert changes(("[a, b]", "[a, b, c]")) == [
        Change(path="pets.Allocation.LogicalIDs", old='["a", "b"]', new='["a", "b", "c"]')
    ]


def test_true_is_not_one() -> None:
    assert changes(("on: 1", "on: true")) == [Change(path="workers.Instance.Properties.on", old="1", new="true")]


def test_names_that_contain_a_dot_are_quoted() -> None:
    assert [c.path for c in changes(('"a.b": x', '"a.b": y'))] == ['workers.Instance.Properties["a.b"]']


def test_added_and_removed_groups() -> None:
    workers, pets = declared()
    (removed,) = diff.changes((workers, pets), (workers,))
    assert (removed.path, removed.new) == ("pets", None)
    assert json.loads(removed.old or "")["Allocation"] == {"LogicalIDs": ["a", "b"]}
    both = diff.changes((), (workers, pets))
    assert [(c.path, c.old) for c in both] == [("pets", None), ("workers", None)]


def test_cattle_that_become_pets() -> None:
    assert changes(("Size: 3", "LogicalIDs: [a]")) == [
        Change(path="workers.Allocation.LogicalIDs", old=None, new='["a"]'),
        Change(path="workers.Allocation.Size", old="3", new=None),
    ]
