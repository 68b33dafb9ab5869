"""A declaration as text: YAML or JSON in, groups out, and back.

A document is a list of groups, or one group, or several YAML documents of such. Nothing of it is used unless all of it
is good: every entry is checked to the end, and one error names every problem with its path, its line and a way out.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from infrakit.spec import hash as hashes
from infrakit.spec import original, path, reading, rules, schema, shapes, validate
from infrakit.spec.tree import Tree
from infrakit.spi import group as spi_group
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.group import Group
from infrakit.spi.values import GroupID

PROBLEMS_MAX = 1000

_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "Allocation": spi_group.DeclaredAllocation,
    "Instance": spi_group.InstanceRef,
    "Flavor": spi_group.FlavorRef,
    "Updating": original.Updating,
    "Healing": spi_group.Healing,
}


def parse(text: bytes | str, *, source: str) -> tuple[Group, ...]:
    """The groups that a document declares. `source` is its name; raises `InvalidSpec` with every problem."""
    tree = reading.read(text, source=source)
    if not tree.entries:
        hint = "a document declares at least one group"
        raise InvalidSpec([Problem(path="", message="the document is empty", hint=hint)], where=source)
    groups: list[Group] = []
    problems: list[Problem] = []
    first: dict[str, int] = {}
    for index, value in enumerate(tree.entries):
        entry = shapes.read(value)
        group, found = _group(entry)
        if entry.name and first.setdefault(entry.name, index) != index:
            message = f'a group named "{path.shorten(entry.name)}" is already groups[{first[entry.name]}]'
            found = [*found, schema.Finding(entry.name_at, message, "choose another name")]
        problems += (tree.problem((index, *f.steps), f.message, f.hint) for f in found)
        groups += [group] if group is not None else []
        if len(problems) > PROBLEMS_MAX:
            break
    if problems:
        shown = sorted(problems, key=lambda p: p.line or 0)[:PROBLEMS_MAX]
        more = [Problem(path="", message="and more")] if len(problems) > PROBLEMS_MAX else []
        raise InvalidSpec([*shown, *more], where=source)
    return tuple(groups)


def render(groups: Sequence[Group]) -> str:
    """The groups as JSON text that `parse` reads back into equal ones. Defaults are written out: they may change."""
    entries = [
        {"kind": "group", "metadata": {"name": g.name, "tags": g.tags}, "properties": plain(g.properties)}
        for g in groups
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def plain(properties: spi_group.GroupProperties) -> dict[str, Any]:
    """Properties as a document spells them, with defaults and without nulls."""
    return _without_nulls(json.loads(msgspec.json.encode(properties)))


def locate(
    problems: Sequence[Problem],
    *,
    text: bytes | str,
    source: str,
    group: GroupID,
    under: Literal["Instance", "Flavor"],
    field: Literal["Properties", "Plugin"] = "Properties",
) -> InvalidSpec:
    """What a plugin found in its own properties, told at the places of the document they came from.

    `field` is where the paths of the problems begin: a plugin that does not exist is wrong at `Plugin`.
    """
    if not problems:
        return InvalidSpec([], where=source)
    tree = reading.read(text, source=source)
    prefix = _properties_of(tree, group)
    located = []
    for problem in problems:
        steps = (*(prefix or ()), under, field)
        line = tree.line((*steps, *path.split(problem.path))) if prefix else None
        # A plugin's own spelling is kept, whatever it is.
        joint = "." if problem.path and not problem.path.startswith("[") else ""
        where = path.join(("groups", *steps) if prefix else (group, *steps)) + joint + problem.path
        located.append(msgspec.structs.replace(problem, path=where, line=line))
    return InvalidSpec(located, where=source)


def _group(entry: shapes.Entry) -> tuple[Group | None, list[schema.Finding]]:
    found = list(entry.findings)
    if entry.properties is None:
        return None, found
    value = _without_nulls(entry.properties)
    inside = list(itertools.islice(rules.findings(value), PROBLEMS_MAX))
    properties = None
    try:
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        properties = validate.decode(body, original.Properties)
    except msgspec.ValidationError as error:
        inside += validate.findings(error, original.Properties, value)
    found += (schema.Finding((*entry.properties_at, *f.steps), f.message, f.hint) for f in inside)
    if properties is None or found:
        return None, found
    declared = original.translated(properties)
    version = hashes.of(declared.instance, declared.flavor)
    return Group(name=GroupID(entry.name), tags=entry.tags, properties=declared, hash=version), []


def _without_nulls(properties: dict[str, Any]) -> dict[str, Any]:
    """Without the nulls of our own fields. What a plugin is given stays as it is; unknown fields stay to be found."""
    pruned = {name: value for name, value in properties.items() if value is not None or name not in _SECTIONS}
    for name, type_ in _SECTIONS.items():
        section = pruned.get(name)
        if isinstance(section, dict):
            known = {field.encode_name for field in msgspec.structs.fields(type_)}
            pruned[name] = {k: v for k, v in section.items() if v is not None or k not in known}
    return pruned


def _properties_of(tree: Tree, group: GroupID) -> path.Steps | None:
    def matching() -> Iterator[path.Steps]:
        for index, value in enumerate(tree.entries):
            entry = shapes.read(value)
            if entry.name == group:
                yield (index, *entry.properties_at)

    return next(matching(), None)
