"""Paths in trees of facts: `groups/web/members/[0]/id`, read as the original reads them.

Names are joined by `/`. Empty ones and `.` are skipped, `..` goes up, so that the empty path and `.` are the root. In a
list `[0]` is the first element, `[-1]` the last and `[name=value]` the first that has that field; they may be glued to
the name before them. What is not there is None, and so is null: in a tree of facts they are the same.
"""

import re
from collections.abc import Sequence

import msgspec

from infrakit.spi.errors import NotFound

_STEP = re.compile(r"\[[^\]]*\]|[^/\[]+|\[")
_INDEX = re.compile(r"\[(-?[0-9]{1,9})\]")
_SEARCH = re.compile(r"\[([^=\]]+)=([^\]]*)\]")


def split(path: str) -> tuple[str, ...]:
    """The steps of a path; none for the root."""
    steps: list[str] = []
    for step in _STEP.findall(path):
        if step == "..":
            del steps[-1:]
        elif step != ".":
            steps.append(step)
    return tuple(steps)


def join(steps: Sequence[str]) -> str:
    """Steps as a path; `.` for the root."""
    return "/".join(steps) or "."


def find(tree: object, steps: Sequence[str]) -> object:
    """The value there, or None."""
    found = tree
    for step in steps:
        found = _below(found, step)
        if found is None:
            return None
    return found


def keys(value: object) -> list[str] | None:
    """The steps that lead on from a value, names sorted; none from what is no container. None: there is nothing."""
    if isinstance(value, dict):
        return sorted(value)
    if isinstance(value, list):
        return [f"[{number}]" for number in range(len(value))]
    return None if value is None else []


def missing(steps: Sequence[str], known: int, names: Sequence[str]) -> NotFound:
    """That nothing is at a path, of which the first `known` steps lead to what has these names; the nearest of them."""
    import difflib  # only for those who mistype

    near = difflib.get_close_matches(steps[known], names, n=1) if known < len(steps) else []
    there = f"in {join(steps[:known])} is" if known else "there are"
    remedy = f"{there}: {', '.join(names[:10]) or 'nothing'}"
    if near:
        remedy = f"did you mean {join((*steps[:known], near[0]))}?"
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
    """As a path spells it: strings bare, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
