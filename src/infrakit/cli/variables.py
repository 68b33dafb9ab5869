"""Merges the values of `--var` and `--vars` into one tree; `cluster/name` is the path of `name` in `cluster`.

A value on the command line is text, except whole numbers, `true` and `false` in their canonical notation: `7` is a
number; `007` and `1.10` stay text. Files have types of their own. Later values override earlier ones, and `--var`
overrides `--vars`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from infrakit.spi.errors import InfraKitError, InvalidSpec, Problem

Tree = dict[str, Any]

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_BOOLEANS = {"true": True, "false": False}


def tree(given: Sequence[str], files: Sequence[str]) -> Tree:
    """Build the tree of all given variables. Raises `click.UsageError`, `InvalidSpec`, and errors of the files."""
    whole: Tree = {}
    for address in files:
        _merge(whole, *_read(address))
    for each in given:
        name, equals, text = each.partition("=")
        steps = _steps(name)
        if not equals or not steps:
            raise click.UsageError(f"--var {each!r} is not NAME=VALUE.")
        _put(whole, steps, value(text))
    return whole


def value(text: str) -> str | int | bool:
    """Convert a text on the command line to a typed value."""
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    return int(text) if _INTEGER.fullmatch(text) else text


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, object]:
    """Return every value and every mapping by its path: the names that templates can use."""
    found: dict[str, object] = {}
    for name, inside in tree.items():
        found[f"{above}{name}"] = inside
        if isinstance(inside, Mapping):
            found |= flat(inside, f"{above}{name}/")
    return found


def _steps(name: str) -> list[str]:
    return [step for step in name.strip().split("/") if step]


def _put(tree: Tree, steps: Sequence[str], value: object) -> None:
    *above, last = steps
    for step in above:
        inside = tree.get(step)
        if not isinstance(inside, dict):
            inside = tree[step] = {}
        tree = inside
    tree[last] = value


def _merge(tree: Tree, more: Mapping[str, Any], where: str) -> None:
    """Merge mappings; any other value in `more` replaces the existing one."""
    for name, inside in more.items():
        steps = _steps(name)
        if not steps:
            raise InvalidSpec([Problem(path="", message=f"found the name {name!r}, which names nothing")], where=where)
        if not isinstance(inside, dict):
            _put(tree, steps, inside)
            continue
        target = tree
        for step in steps:
            below = target.get(step)
            if not isinstance(below, dict):
                below = target[step] = {}
            target = below
        _merge(target, inside, where)


def _read(address: str) -> tuple[Tree, str]:
    """Read the tree in a file, and return it with the name of the file in messages."""
    from infrakit.spec import reading
    from infrakit.template import loaders

    where = loaders.display(address)
    try:
        entries = reading.read(loaders.load(address), source=where).entries
    except InvalidSpec as error:  # the reader of declarations reports paths below groups
        problems = [
            msgspec.structs.replace(each, path=re.sub(r"^groups\[\d+\]\.?", "", each.path)) for each in error.problems
        ]
        raise InvalidSpec(problems, where=where) from None
    except InfraKitError as error:
        raise click.ClickException(str(error)) from None
    if len(entries) > 1 or (entries and not isinstance(entries[0], dict)):
        found = Problem(path="", message="found a list or a value, expected names with values")
        raise InvalidSpec([found], where=where)
    return (entries[0] if entries else {}), where
