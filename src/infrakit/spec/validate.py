"""Decodes plugins' `Properties` into their own types, and reports every problem at once."""

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from infrakit.spec import path as paths
from infrakit.spec import schema
from infrakit.spi import codec
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.values import Attachment, GroupID, LogicalID

T = TypeVar("T")

_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<where>.*)`)?", re.DOTALL)


def properties(raw: msgspec.Raw, type_: type[T], *, path: str = "") -> T:
    """Decode a plugin's properties; null or an empty text counts as `{}`.

    `path` is the prefix of the path of each problem. Raises `InvalidSpec` with all of them.
    """
    body = bytes(raw).strip()
    prefix = paths.split(path)
    try:
        return codec.decode(b"{}" if body in (b"", b"null") else body, type_)
    except msgspec.ValidationError as error:
        found = _all_of(error, type_, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = [schema.Finding((), f"not JSON: {error}")]
    raise InvalidSpec(
        [Problem(path=paths.join((*prefix, *f.steps)), message=f.message, hint=f.hint) for f in found]
    ) from None


def findings(error: msgspec.ValidationError, type_: Any, value: Any) -> list[schema.Finding]:
    """Return every problem of a value that msgspec has rejected with `error`."""
    if found := schema.findings(type_, value):
        return found
    match = _PLACE.fullmatch(str(error))  # a rule that no schema can express, such as __post_init__
    what, where = (match["what"], match["where"] or "") if match else (str(error), "")
    return [schema.Finding(paths.split(where.partition("[...]")[0]), what[:1].lower() + what[1:])]


def _all_of(error: msgspec.ValidationError, type_: Any, body: bytes) -> list[schema.Finding]:
    """Return every problem of a text. msgspec stopped at the first mistake, so the rest may not even be JSON."""
    try:
        return findings(error, type_, json.loads(body))
    except (ValueError, RecursionError) as malformed:
        return [schema.Finding((), f"not JSON: {malformed}")]


def conflicts(
    attachments: Mapping[tuple[GroupID, LogicalID], tuple[Attachment, ...]],
) -> dict[GroupID, list[Problem]]:
    """Return the problem of each attachment that several logical IDs declare, by the later of their groups.

    The paths are empty, relative to the properties of the group's flavor: `Draft.locate` completes them.
    """
    holders: dict[Attachment, tuple[GroupID, LogicalID]] = {}
    problems: dict[GroupID, list[Problem]] = {}
    for (group, logical_id), held in attachments.items():
        for attachment in held:
            first = holders.setdefault(attachment, (group, logical_id))
            if first == (group, logical_id):
                continue
            what = f'the attachment "{attachment.id}" of type "{attachment.type}"'
            message = f'{what} is given to "{logical_id}" and already to "{first[1]}" of the group "{first[0]}"'
            hint = "an attachment follows one logical ID"
            problems.setdefault(group, []).append(Problem(path="", message=message, hint=hint))
    return problems


def shared_logical_ids(
    declared: Mapping[GroupID, tuple[str, Sequence[LogicalID]]],
) -> dict[GroupID, list[Problem]]:
    """Return the problem of each logical ID that several groups of one instance plugin declare, by the later group.

    `declared` has the plugin and the logical IDs of each group. The paths are relative to `Allocation.LogicalIDs`.
    """
    holders: dict[tuple[str, str], GroupID] = {}
    problems: dict[GroupID, list[Problem]] = {}
    for group, (plugin, logical_ids) in declared.items():
        for position, logical_id in enumerate(logical_ids):
            first = holders.setdefault((plugin, _canonical(logical_id)), group)
            if first != group:
                message = f'"{logical_id}" is a logical ID of the group "{first}" already'
                hint = f"a logical ID has at most one instance on {plugin}"
                problems.setdefault(group, []).append(Problem(path=f"[{position}]", message=message, hint=hint))
    return problems


def _canonical(logical_id: str) -> str:
    try:
        return str(ipaddress.ip_address(logical_id))
    except ValueError:
        return logical_id
