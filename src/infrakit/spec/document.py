"""Parses a declaration from YAML or JSON to groups, and renders groups as text.

A document is a list of groups, or one group, or several YAML documents of these. It is accepted or rejected as a whole:
every entry is checked, and one error lists every problem with its path, its line and a hint.
"""

import functools
import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from infrakit.spec import hash as hashes
from infrakit.spec import original, path, reading, rules, schema, shapes, validate
from infrakit.spec.tree import Tree
from infrakit.spi import codec
from infrakit.spi import group as spi_group
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.group import Group
from infrakit.spi.values import GroupID

T = TypeVar("T")

PROBLEMS_MAX = 1000

_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "Allocation": spi_group.DeclaredAllocation,
    "Instance": spi_group.InstanceRef,
    "Flavor": spi_group.FlavorRef,
    "Updating": original.Updating,
    "Healing": spi_group.Healing,
}


class Part(NamedTuple):
    """The parts of one entry that plugins check. None: invalid, and already among the problems."""

    group: GroupID
    at: path.Steps  # path of the group's properties, from the entries
    instance: spi_group.InstanceRef | None
    flavor: spi_group.FlavorRef | None
    allocation: spi_group.DeclaredAllocation | None


class Draft:
    """A parsed document: the valid groups, and every problem of the others."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.groups: list[Group] = []
        self.parts: list[Part] = []
        self.problems: list[Problem] = []

    def locate(
        self,
        found: Sequence[Problem],
        part: Part,
        *,
        under: Literal["Instance", "Flavor", "Allocation"],
        field: Literal["Properties", "Plugin", "LogicalIDs"] = "Properties",
    ) -> list[Problem]:
        """Return the problems that a plugin found in its own properties, with their paths and lines in the document.

        `field` is the field that the paths are relative to: an unknown plugin is a problem at `Plugin`.
        """
        steps = (*part.at, under, field)
        located = []
        for problem in found:
            line = self._tree.line((*steps, *path.split(problem.path)))
            # A plugin's own spelling of a path is kept.
            joint = "." if problem.path and not problem.path.startswith("[") else ""
            where = path.join(("groups", *steps)) + joint + problem.path
            located.append(msgspec.structs.replace(problem, path=where, line=line))
        return located


def parse(text: bytes | str, *, source: str) -> tuple[Group, ...]:
    """Return the groups that a document declares. `source` is its name. Raises `InvalidSpec` with every problem."""
    draft = read(text, source=source)
    refuse(draft.problems, source=source)
    return tuple(draft.groups)


def refuse(problems: Sequence[Problem], *, source: str) -> None:
    """Raise `InvalidSpec` if there are problems, sorted by line, and at most PROBLEMS_MAX of them."""
    if problems:
        shown = sorted(problems, key=lambda p: p.line or 0)[:PROBLEMS_MAX]
        more = [Problem(path="", message="further problems are not listed")] if len(problems) > PROBLEMS_MAX else []
        raise InvalidSpec([*shown, *more], where=source)


def read(text: bytes | str, *, source: str) -> Draft:
    """Parse as much of a document as possible. Raises `InvalidSpec` if nothing can be parsed."""
    tree = reading.read(text, source=source)
    if not tree.entries:
        hint = "a document declares at least one group"
        raise InvalidSpec([Problem(path="", message="the document is empty", hint=hint)], where=source)
    draft = Draft(tree)
    first: dict[str, int] = {}
    for index, value in enumerate(tree.entries):
        entry = shapes.read(value)
        found = _add_entry(entry, index, draft)
        if entry.name and first.setdefault(entry.name, index) != index:
            message = f'a group named "{path.shorten(entry.name)}" is already groups[{first[entry.name]}]'
            found.append(schema.Finding(entry.name_at, message, "choose another name"))
        draft.problems += (tree.problem((index, *f.steps), f.message, f.hint) for f in found)
        if len(draft.problems) > PROBLEMS_MAX:
            break
    return draft


def render(groups: Sequence[Group]) -> str:
    """Return the groups as JSON text that `parse` restores. Defaults are written out, because they may change."""
    entries = [
        {"kind": "group", "metadata": {"name": g.name, "tags": g.tags}, "properties": plain(g.properties)}
        for g in groups
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def plain(properties: spi_group.GroupProperties) -> dict[str, Any]:
    """Return properties in the form of a document, with defaults and without nulls."""
    return _without_nulls(json.loads(msgspec.json.encode(properties)))


def _add_entry(entry: shapes.GroupEntry, index: int, draft: Draft) -> list[schema.Finding]:
    """Add an entry to the draft: as a group if it is valid, and in any case the parts that plugins check."""
    if entry.properties is None:
        return list(entry.findings)
    name, value = GroupID(entry.name), _without_nulls(entry.properties)
    inside = list(itertools.islice(rules.findings(value), PROBLEMS_MAX))
    properties = None
    try:
        properties = codec.decode(_json(value), original.Properties)
    except msgspec.ValidationError as error:
        inside += validate.findings(error, original.Properties, value)
    if properties is not None and not inside and not entry.findings:
        declared = original.translated(properties)
        version = hashes.of(declared.instance, declared.flavor)
        draft.groups.append(Group(name=name, tags=entry.tags, properties=declared, hash=version))
    draft.parts.append(
        Part(
            group=name,
            at=(index, *entry.properties_at),
            instance=_section(value, "Instance", spi_group.InstanceRef),
            flavor=_section(value, "Flavor", spi_group.FlavorRef),
            allocation=_section(value, "Allocation", spi_group.DeclaredAllocation),
        )
    )
    return [*entry.findings, *(schema.Finding((*entry.properties_at, *f.steps), f.message, f.hint) for f in inside)]


def _section(properties: dict[str, Any], name: str, type_: type[T]) -> T | None:
    try:
        return codec.decode(_json(properties.get(name)), type_)
    except msgspec.ValidationError:
        return None


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _without_nulls(properties: dict[str, Any]) -> dict[str, Any]:
    """Remove the nulls of our own fields. Plugins' properties and unknown fields are kept."""
    pruned = {name: value for name, value in properties.items() if value is not None or name not in _SECTIONS}
    for name, type_ in _SECTIONS.items():
        section = pruned.get(name)
        if isinstance(section, dict):
            known = _names(type_)
            pruned[name] = {k: v for k, v in section.items() if v is not None or k not in known}
    return pruned


@functools.cache
def _names(type_: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(type_))
