"""Paths in trees of facts, such as `groups/web/members/[0]/id`, interpreted as in the original.

Names are joined by `/`. Empty names and `.` are skipped and `..` is the parent, so the empty path and `.` are the root.
In a list, `[0]` is the first element, `[-1]` the last and `[name=value]` the first with that field; an index may follow
a name without a `/`. A missing value is None, and so is null: a tree of facts does not distinguish them.
"""

import re
from collections.abc import Sequence

import msgspec

from infrakit.spi import names
from infrakit.spi.errors import NotFound

_STEP = re.compile(r"\[[^\]]*\]|[^/\[]+|\[")
_INDEX = re.compile(r"\[(-?[0-9]{1,9})\]")
_SEARCH = re.compile(r"\[([^=\]]+)=([^\]]*)\]")


def split(path: str) -> tuple[str, ...]:
    """Split a path into its steps; the root has none."""
    steps: list[str] = []
    for step in _STEP.findall(path):
        if step == "..":
            del steps[-1:]
        elif step != ".":
            steps.append(step)
    return tuple(steps)


def join(steps: Sequence[str]) -> str:
    """Join steps to a path; `.` is the root."""
    return "/".join(steps) or "."


def find(tree: object, steps: Sequence[str]) -> object:
    """Return the value at a path in the tree, or None."""
    found = tree
    for step in steps:
        found = _below(found, step)
        if found is None:
            return None
    return found


def keys(value: object) -> list[str] | None:
    """Return the steps one level below a value, names sorted: empty for a scalar, None for a missing value."""
    if isinstance(value, dict):
        return sorted(value)
    if isinstance(value, list):
        return [f"[{number}]" for number in range(len(value))]
    return None if value is None else []


def missing(steps: Sequence[str], known: int, existing: Sequence[str]) -> NotFound:
    """Return the error for a missing path: its first `known` steps exist, `existing` below; suggest the nearest."""
    near = names.nearest(steps[known], existing) if known < len(steps) else ""
    there = f"in {join(steps[:known])} is" if known else "there are"
    remedy = f"{there}: {', '.join(existing[:10]) or 'nothing'}"
    if near:
        remedy = f"did you mean {join((*steps[:known], near))}?"
    return NotFound("there is nothing at this path", where=join(steps), remedy=remedy)


def _below(value: object, step: str) -> object:
    if isinstance(value, dict):
        return value.get(step)
    if not isinstance(value, list):
        return None
    if index := _INDEX.fullmatch(step):
        number = int(index[1])
        return value[number] if -len(value) <= number < len(value) else None
    if search := _SEARCH.fullmatch(step):
        field, wanted = search.groups()
        return next((e for e in value if isinstance(e, dict) and field in e and _text(e[field]) == wanted), None)
    return None


def _text(value: object) -> str:
    """Format a value as a path spells it: a string bare, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
