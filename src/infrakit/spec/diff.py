"""The changes of a commit: the differences between two declarations, leaf by leaf, in the terms of a document."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from infrakit.spec import document, path
from infrakit.spi.group import Group
from infrakit.spi.manager import Change


def changes(old: Sequence[Group], new: Sequence[Group]) -> tuple[Change, ...]:
    """Return the changes, sorted by group and field; an added or removed group is one change."""
    before, after = ({str(g.name): _plain(g) for g in groups} for groups in (old, new))
    found: list[Change] = []
    for name in sorted(before.keys() | after.keys()):
        if name in before and name in after:
            found += _between(name, (), before[name], after[name])
        else:
            found.append(Change(path=name, old=_text(before, name), new=_text(after, name)))
    return tuple(found)


def _plain(group: Group) -> dict[str, Any]:
    return {"tags": group.tags, **document.plain(group.properties)}


def _between(group: str, steps: path.Steps, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            if name in old and name in new:
                yield from _between(group, (*steps, name), old[name], new[name])
            else:
                yield Change(path=_path(group, (*steps, name)), old=_text(old, name), new=_text(new, name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _between(group, (*steps, index), before, after)
    elif _differ(old, new):
        texts = [json.dumps(value, ensure_ascii=False) for value in (old, new)]
        yield Change(path=_path(group, steps), old=texts[0], new=texts[1])


def _differ(old: Any, new: Any) -> bool:
    """Whether two leaves differ. In Python true equals 1; in a document it does not."""
    return isinstance(old, bool) is not isinstance(new, bool) or old != new


def _path(group: str, steps: path.Steps) -> str:
    tail = path.join(steps)
    return f"{group}{'' if tail.startswith('[') else '.'}{tail}"


def _text(values: dict[str, Any], name: str) -> str | None:
    return json.dumps(values[name], ensure_ascii=False) if name in values else None
