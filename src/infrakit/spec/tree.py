"""A document as plain values with line numbers.

The parsers of JSON and YAML report events to a `Builder`, which creates dicts, lists and scalars. It enforces every
limit and rule that both formats share while it builds, so that oversized input is rejected early: the depth, the number
of values, repeated keys, and the expansion of aliases.

Lines are stored separately, by the identity of their container. So the values are the same as those of `json`, and an
alias, which is the same object twice, has the line of its definition.
"""

import json
import sys
from typing import Any

from infrakit.spec import path
from infrakit.spi.errors import InvalidSpec, Problem

DEPTH_MAX = 64
VALUES_MAX = 250_000  # aliases expanded
CHARACTERS_MAX = 10_000_000  # of all scalars, aliases expanded
DECIMAL = 10
DIGITS_MAX = 400  # a finite float has at most 309 before the point

Container = dict[str, Any] | list[Any]


class Tree:
    """The entries of a document: the elements of its lists, or single mappings in place of a list."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._lines: dict[int, dict[str | int, int]] = {id(self.entries): {}}

    def set_lines(self, container: Container, lines: dict[str | int, int]) -> None:
        """Store the lines of a container's members."""
        self._lines[id(container)] = lines

    def add(self, value: Any, line: int) -> None:
        """Add one YAML document: null adds nothing, a list adds all its elements."""
        if value is None:
            return
        lines = self._lines[id(self.entries)]
        values = value if isinstance(value, list) else [value]
        own = self._lines[id(value)] if isinstance(value, list) else {0: line}
        for index, element in enumerate(values):
            lines[len(self.entries)] = own[index]
            self.entries.append(element)

    def line(self, steps: path.Steps) -> int | None:
        """Return the line of `steps`, relative to the entries, or that of the nearest existing parent."""
        line: int | None = None
        value: Any = self.entries
        for step in steps:
            found = self._lines.get(id(value), {}).get(step) if isinstance(value, dict | list) else None
            if found is None:
                break
            line, value = found, value[step]
        return line

    def problem(self, steps: path.Steps, message: str, hint: str = "") -> Problem:
        """Return a problem at `steps`."""
        return Problem(path=path.join(("groups", *steps)), message=message, line=self.line(steps), hint=hint)


class _Open:
    """A container that is being filled."""

    def __init__(self, container: Container, line: int, anchor: str | None, start: tuple[int, int]) -> None:
        self.container = container
        self.line = line
        self.anchor = anchor
        self.start = start  # the counters at its start
        self.lines: dict[str | int, int] = {}
        self.key: str | None = None
        self.height = 1


class _Anchored:
    """The value of an anchor, and its size when an alias expands it."""

    def __init__(self, value: Any, height: int, values: int, characters: int) -> None:
        self.value = value
        self.height = height
        self.values = values
        self.characters = characters


class Builder:
    """Builds a `Tree` from events. Raises `InvalidSpec` with one problem at the first invalid event."""

    def __init__(self) -> None:
        self.tree = Tree()
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}  # None: still open
        self._values = 0
        self._characters = 0
        self._aliased = False

    @property
    def wants_key(self) -> bool:
        """Whether the next scalar names a member of a mapping."""
        return bool(self._open) and isinstance(self._open[-1].container, dict) and self._open[-1].key is None

    def document(self) -> None:
        """Start a document, without the anchors of the previous one."""
        self._anchors = {}

    def begin(self, container: Container, line: int, anchor: str | None = None) -> None:
        """Start a mapping or list."""
        if self.wants_key:
            raise self.error("found a mapping or list as a key, expected a name", line)
        if len(self._open) >= DEPTH_MAX:
            raise self.error(f"nested deeper than {DEPTH_MAX} levels", line)
        start = (self._values, self._characters)
        self._count(1, 0, line)
        if anchor is not None:
            self._anchors[anchor] = None
        self._open.append(_Open(container, line, anchor, start))

    def end(self) -> None:
        """Complete the innermost mapping or list."""
        done = self._open.pop()
        self.tree.set_lines(done.container, done.lines)
        if done.anchor is not None:
            values, characters = self._values - done.start[0], self._characters - done.start[1]
            self._anchors[done.anchor] = _Anchored(done.container, done.height, values, characters)
        self._place(done.container, done.line, done.height)

    def key(self, name: str, line: int) -> None:
        """Set the name of the next member of the innermost mapping."""
        top = self._open[-1]
        if name in top.lines:
            shown = json.dumps(path.shorten(name), ensure_ascii=False)
            raise self.error(f"the key {shown} is repeated, first on line {top.lines[name]}", line)
        self._check_text(name, line)
        self._count(1, len(name), line)
        top.lines[name] = line
        top.key = name

    def scalar(self, value: Any, line: int, anchor: str | None = None) -> None:
        """Add a text, number, boolean or null."""
        characters = 0
        if isinstance(value, str):
            self._check_text(value, line)
            characters = len(value)
        self._count(1, characters, line)
        if anchor is not None:
            self._anchors[anchor] = _Anchored(value, 0, 1, characters)
        self._place(value, line, 0)

    def number(self, text: str, line: int, *, base: int = DECIMAL) -> float:
        """Return the value of a number, integers exactly. A negative zero is kept, as in Go."""
        if len(text) <= DIGITS_MAX:
            is_integer = base != DECIMAL or text.lstrip("+-").isdigit()
            value: float = int(text, base) if is_integer else float(text)
            if abs(value) <= sys.float_info.max:
                return -0.0 if value == 0 and text.startswith("-") else value
        raise self.error(f"found {path.shorten(text)}, expected a number of at most 1.8e308", line)

    def alias(self, anchor: str, line: int) -> None:
        """Add the value of an anchor."""
        if anchor not in self._anchors:
            raise self.error(f"found the alias *{path.shorten(anchor)}, which no anchor before it defines", line)
        known = self._anchors[anchor]
        if known is None:
            raise self.error(f"the alias *{path.shorten(anchor)} refers to a value that contains it", line)
        if self.wants_key:
            raise self.error("found an alias as a key, expected a name", line)
        self._aliased = True
        if len(self._open) + known.height > DEPTH_MAX:
            raise self.error(f"nested deeper than {DEPTH_MAX} levels, aliases expanded", line)
        self._count(known.values, known.characters, line)
        self._place(known.value, line, known.height)

    def error(self, message: str, line: int, hint: str = "") -> InvalidSpec:
        """Return an error at the current place."""
        return InvalidSpec([Problem(path=self._here(), message=message, line=line, hint=hint)])

    def _place(self, value: Any, line: int, height: int) -> None:
        if not self._open:
            self.tree.add(value, line)
            return
        top = self._open[-1]
        top.height = max(top.height, height + 1)
        if isinstance(top.container, dict):
            if top.key is None:
                raise AssertionError("a value without its key")
            top.container[top.key] = value
            top.key = None
        else:
            top.lines[len(top.container)] = line
            top.container.append(value)

    def _count(self, values: int, characters: int, line: int) -> None:
        self._values += values
        self._characters += characters
        expanded = ", aliases expanded" if self._aliased else ""
        if self._values > VALUES_MAX:
            raise self.error(f"more than {VALUES_MAX:,} names and values{expanded}", line)
        if self._characters > CHARACTERS_MAX:
            raise self.error(f"more than {CHARACTERS_MAX // 1_000_000} MB of text{expanded}", line)

    def _check_text(self, text: str, line: int) -> None:
        if "\0" in text:
            raise self.error("found a NUL character", line)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise self.error("found half of a surrogate pair, which is not a character", line) from None

    def _here(self) -> str:
        entry = len(self.tree.entries)
        steps: list[str | int] = []
        for depth, level in enumerate(self._open):
            if isinstance(level.container, list):
                index = len(level.container)
                steps.append(entry + index if depth == 0 else index)
            else:
                if depth == 0:
                    steps.append(entry)
                if level.key is not None:
                    steps.append(level.key)
        return path.join(("groups", *steps)) if steps else ""
