"""Pure changes of a tree of values: each returns a new tree, and refuses names that no path could address.

A name may contain anything that has no other meaning in a path: not `/` or brackets, and it is not `.` or `..`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from infrakit.spi import paths
from infrakit.spi.errors import InvalidSpec, NotFound, Problem, Refused, invalid
from infrakit.spi.metadata import Change

BYTES_MAX = 512 * 1024  # of the whole tree as JSON: every store accepts a document of this size
DEPTH_MAX = 32

Values = dict[str, Any]


def write(tree: Values, changes: Sequence[Change], remove: Sequence[str]) -> Values:
    """Return the tree without the removed paths, and with each changed value replaced."""
    for path in remove:
        tree = _removed(tree, paths.split(path), path)
    for change in changes:
        tree = _put(tree, paths.split(change.path), _value(change), change.path)
    return checked(tree)


def merge(tree: Values, changes: Sequence[Change]) -> Values:
    """Return the tree with each value merged at its path, as the original does: maps are merged, new values win.

    A null in a change removes the name (JSON Merge Patch, RFC 7396).
    """
    for change in changes:
        patch: Any = msgspec.json.decode(change.value)
        for step in reversed(paths.split(change.path)):
            patch = {step: patch}
        if not isinstance(patch, dict):
            raise invalid(change.path or ".", "the root holds names, so only a map can be merged into it")
        tree = _merged(tree, patch)
    return checked(tree)


def checked(tree: object) -> Values:
    """Return the tree without nulls. Raises `InvalidSpec` with all invalid names, `Refused` if it is too big."""
    if not isinstance(tree, dict):
        raise invalid(".", "the root holds names, so its value must be a map", hint='write {"name": value}')
    size = len(encode(tree))
    if size > BYTES_MAX:
        raise Refused(
            f"the tree would have {size} bytes, at most {BYTES_MAX} are allowed", remedy="remove unused values"
        )
    problems: list[Problem] = []
    kept: Values = _checked(tree, (), problems)
    if problems:
        raise InvalidSpec(problems)
    return kept


def encode(tree: object) -> bytes:
    """Encode as compact JSON with sorted names: equal trees have equal bytes."""
    return msgspec.json.encode(tree, order="sorted")


def differences(before: object, after: object, steps: tuple[str, ...] = ()) -> list[str]:
    """Return the paths at which two trees differ, each as short as possible."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if encode(before) == encode(after) else [paths.join(steps)]  # for Python, 1 and true are equal
    names = sorted(before.keys() | after.keys())
    return [path for name in names for path in differences(before.get(name), after.get(name), (*steps, name))]


def _value(change: Change) -> Any:
    """Decode the value of a change. Raises `Refused` for a null in a map, which would be dropped; lists keep nulls."""
    value = msgspec.json.decode(change.value)
    null = _null_in(value)
    if null == ():
        raise Refused("null means a missing value", where=change.path, remedy="remove the path instead")
    if null:
        where = paths.join((*paths.split(change.path), *null))
        raise Refused("null means a missing value", where=where, remedy="omit it from the value")
    return value


def _null_in(value: Any, depth: int = 0) -> tuple[str, ...] | None:
    """Return the path of the first null outside lists; None without one. `checked` refuses excessive depth."""
    if value is None:
        return ()
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict) and depth <= DEPTH_MAX:
        inside = value.items()
    elif isinstance(value, list) and depth <= DEPTH_MAX:
        inside = ((f"[{number}]", each) for number, each in enumerate(value) if each is not None)
    return next(((name, *null) for name, each in inside if (null := _null_in(each, depth + 1)) is not None), None)


def _put(tree: Any, steps: tuple[str, ...], value: Any, path: str) -> Any:
    if not steps:
        return value
    if not isinstance(tree, dict):
        raise _path_blocked(tree, path)
    first, rest = steps[0], steps[1:]
    return {**tree, first: _put(tree.get(first, {}), rest, value, path)}


def _removed(tree: Any, steps: tuple[str, ...], path: str) -> Any:
    if not steps:
        raise Refused("the root cannot be removed", where=path or ".", remedy="set it to {} to remove everything in it")
    if isinstance(tree, list):
        raise _path_blocked(tree, path)
    first, rest = steps[0], steps[1:]
    if not isinstance(tree, dict) or first not in tree:
        known = sorted(tree) if isinstance(tree, dict) else []
        whole = paths.split(path)
        if not known and len(whole) == len(steps):
            remedy = "there are no variables yet; to set one: infrakit metadata set vars/NAME VALUE"
            raise NotFound("there is nothing at this path", where=path, remedy=remedy)
        raise paths.missing(whole, len(whole) - len(steps), known)
    if rest:
        return {**tree, first: _removed(tree[first], rest, path)}
    return {name: value for name, value in tree.items() if name != first}


def _path_blocked(found: object, path: str) -> Refused:
    if isinstance(found, list):
        return Refused("a list can only be replaced as a whole", where=path, remedy="set the list")
    return Refused("the path leads through a value", where=path, remedy="remove that value first")


def _merged(tree: Values, patch: Mapping[str, Any]) -> Values:
    merged = dict(tree)
    for name, new in patch.items():
        old = merged.get(name)
        if new is None:
            merged.pop(name, None)
        elif isinstance(new, dict):
            merged[name] = _merged(old if isinstance(old, dict) else {}, new)
        else:
            merged[name] = new
    return merged


def _checked(value: Any, steps: tuple[str, ...], problems: list[Problem]) -> Any:
    if len(steps) > DEPTH_MAX:
        problems.append(Problem(path=paths.join(steps[:4]), message=f"it is nested deeper than {DEPTH_MAX} levels"))
    elif isinstance(value, list):
        return [_checked(each, (*steps, f"[{number}]"), problems) for number, each in enumerate(value)]
    elif isinstance(value, dict):
        problems += [_name_problem(name, steps) for name in value if not _is_name(name)]
        return {n: _checked(v, (*steps, n), problems) for n, v in value.items() if v is not None}
    return value


def _is_name(name: str) -> bool:
    return paths.split(name) == (name,) and name.isprintable() and "[" not in name and "]" not in name


def _name_problem(name: str, steps: tuple[str, ...]) -> Problem:
    hint = "a name has no slash and no brackets, and is not . or .."
    return Problem(path=paths.join(steps), message=f"no path could address {name!r}", hint=hint)
