"""Formats the difference of two declarations for people: one line per change, a block for values of many lines.

Values arrive as JSON text. Short values are printed unchanged; a new group or a script is printed as YAML; of a long
value that changes, only the lines that differ are printed.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence

from infrakit.cli import tables
from infrakit.spi.manager import Change

_SHORT = 100  # characters of JSON that are printed on the line of their path
_NAMED = 5  # logical IDs on the line of a new group
_CONTEXT = 1  # unchanged lines around those that differ
_COLOURS = {"+": "green", "-": "red"}


def lines(changes: Iterable[Change]) -> Iterator[str]:
    """Yield `+ path: new`, `- path: old` or `~ path: old -> new` for each change."""
    for change in changes:
        if change.old is None:
            yield from _block("+", change.path, change.new or "null")
        elif change.new is None:
            yield from _block("-", change.path, change.old)
        elif _is_short(change.old) and _is_short(change.new):
            yield tables.paint(f"  ~ {change.path}: {change.old} -> {change.new}", "yellow")
        else:
            yield tables.paint(f"  ~ {change.path}:", "yellow")
            yield from _differing(change.old, change.new)


def brief(changes: Iterable[Change]) -> Iterator[str]:
    """Yield the lines of changes that are committed; a new group is one line, because `plan` and -o json show it."""
    for change in changes:
        group = json.loads(change.new) if change.old is None and change.new else None
        if isinstance(group, dict) and {"Allocation", "Instance", "Flavor"} <= group.keys():
            allocation = group["Allocation"]
            ids = allocation.get("LogicalIDs")
            size = tables.count(allocation.get("Size") or 0 if ids is None else len(ids), "instance")
            named = f" ({', '.join(ids[:_NAMED])}{', ...' if len(ids) > _NAMED else ''})" if ids else ""
            plugins = f"of {group['Instance']['Plugin']}, flavor {group['Flavor']['Plugin']}"
            yield tables.paint(tables.clean(f"  + {change.path}: new group, {size}{named} {plugins}"), "green")
        else:
            yield from lines([change])


def _is_short(text: str) -> bool:
    return len(text) <= _SHORT and "\\n" not in text


def _block(sign: str, path: str, text: str) -> Iterator[str]:
    if _is_short(text):
        yield tables.paint(f"  {sign} {path}: {text}", _COLOURS[sign])
        return
    for line in (f"{path}:", *(f"  {line}" for line in _yaml(text))):
        yield tables.paint(f"  {sign} {line}".rstrip(), _COLOURS[sign])


def _differing(old: str, new: str) -> Iterator[str]:
    found = difflib.unified_diff(_yaml(old), _yaml(new), n=_CONTEXT, lineterm="")
    for line in list(found)[2:]:  # without the header with file names: the texts have none
        shown = "..." if line.startswith("@@") else line
        yield tables.paint(f"      {shown}".rstrip(), _COLOURS.get(line[:1], ""))


def _yaml(text: str) -> Sequence[str]:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines, such as scripts, in block style."""

    def script(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, script)
    shown: str = yaml.dump(json.loads(text), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return [tables.clean(line) for line in shown.removesuffix("\n...\n").splitlines()]
