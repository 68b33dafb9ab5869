"""The two forms of an entry in a document.

    {kind: group, metadata: {name: workers, tags: {...}}, properties: {...}}
    {"Plugin": "group", "Properties": {"ID": "workers", "Properties": {...}}}

Both are parsed to one common form; problems have the paths of the form that the document uses. Null means absent, as
Go encodes it. In the second form, so does the zero value of the other field of an allocation.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from infrakit.spec import path, schema
from infrakit.spec.schema import Finding
from infrakit.spi import codec
from infrakit.spi import group as spi_group

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_RESERVED_PREFIX = "infrakit."


class _Metadata(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    tags: dict[str, str] | None = None


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    metadata: _Metadata
    properties: dict[str, Any]
    version: str | None = None


class _OriginalGroup(spi_group.Strict, frozen=True, kw_only=True):
    id: str
    properties: dict[str, Any]


class _OriginalEntry(spi_group.Strict, frozen=True, kw_only=True):
    plugin: str
    properties: _OriginalGroup
    version: str | None = msgspec.field(default=None, name="version")


class GroupEntry(NamedTuple):
    """One entry, in a common form. Invalid parts are empty, and among the findings."""

    name: str
    name_at: path.Steps
    tags: dict[str, str]
    properties: dict[str, Any] | None
    properties_at: path.Steps
    findings: list[Finding]


def read(value: Any) -> GroupEntry:
    """Parse one entry, without checking its properties."""
    if not isinstance(value, dict):
        wrong = schema.mismatch((), value, "a group: a mapping of kind, metadata and properties")
        return GroupEntry("", (), {}, None, (), [wrong])
    names = {name.lower() for name in value}
    if "plugin" in names or ("Properties" in value and not names & {"kind", "metadata"}):
        return _original(value)
    found = _type_findings(value, _Entry)
    kind, metadata = value.get("kind"), _mapping(value.get("metadata")) or {}
    if isinstance(kind, str) and kind != "group":
        found.append(schema.mismatch(("kind",), kind, '"group"'))
    name, tags = metadata.get("name"), _mapping(metadata.get("tags")) or {}
    if isinstance(name, str):
        name = name.removeprefix("group/")  # the original also writes `group/workers`
        found += _name_findings(name, ("metadata", "name"))
    found += _tag_findings(tags)
    properties = _mapping(value.get("properties"))
    known = name if isinstance(name, str) else ""
    return GroupEntry(known, ("metadata", "name"), tags, properties, ("properties",), found)


def _original(value: dict[str, Any]) -> GroupEntry:
    found = _type_findings(value, _OriginalEntry)
    plugin, group = value.get("Plugin"), _mapping(value.get("Properties")) or {}
    if isinstance(plugin, str) and plugin.partition("/")[0] not in ("group", "group-stateless"):
        found.append(schema.mismatch(("Plugin",), plugin, '"group"'))
    name, properties = group.get("ID"), _mapping(group.get("Properties"))
    if isinstance(name, str):
        found += _name_findings(name, ("Properties", "ID"))
    allocation = _mapping((properties or {}).get("Allocation"))
    if properties is not None and allocation is not None:
        properties = {**properties, "Allocation": _without_zero(allocation)}
    at = ("Properties", "Properties")
    return GroupEntry(name if isinstance(name, str) else "", ("Properties", "ID"), {}, properties, at, found)


def _without_zero(allocation: dict[str, Any]) -> dict[str, Any]:
    """Remove an unset field: Go writes both, as `Size: 0` beside logical IDs, or an empty list beside a size."""
    size, logical_ids = allocation.get("Size"), allocation.get("LogicalIDs")
    if size == 0 and logical_ids:
        return {name: value for name, value in allocation.items() if name != "Size"}
    if size is not None and logical_ids == []:
        return {name: value for name, value in allocation.items() if name != "LogicalIDs"}
    return allocation


def _type_findings(value: dict[str, Any], type_: Any) -> list[Finding]:
    try:
        codec.convert(value, type_)
    except msgspec.ValidationError:
        return schema.findings(type_, value)
    return []


def _name_findings(name: str, at: path.Steps) -> Iterator[Finding]:
    if not _NAME.fullmatch(name):
        expected = 'a name of 1 to 63 letters, digits, "-", "_" and ".", that begins with a letter or digit'
        yield schema.mismatch(at, name, expected)


def _tag_findings(tags: dict[str, Any]) -> Iterator[Finding]:
    for tag in tags:
        if tag.lower().startswith(_RESERVED_PREFIX):
            message = f'the prefix "{_RESERVED_PREFIX}" is reserved for tags that InfraKit sets itself'
            yield Finding(("metadata", "tags", tag), message, "choose another name")


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
