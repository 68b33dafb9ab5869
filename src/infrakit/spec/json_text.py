"""A JSON parser with line numbers.

The standard library's parser reports neither lines nor repeated keys, and accepts NaN. So the tokens are parsed here,
without recursion, and only strings by its scanner. A text that is not JSON may still be YAML: its problem is returned,
not raised, while the builder raises what is invalid in both formats.
"""

import json.decoder
import re
from collections.abc import Iterator
from typing import Any

from infrakit.spec import path
from infrakit.spec.tree import Builder
from infrakit.spi.errors import Problem

_TOKEN = re.compile(
    r"""(?P<mark>[\[\]{},:]) | (?P<text>") | (?P<word>true|false|null)\b | (?P<infinite>-?Infinity\b|NaN\b) |
    (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)(?![0-9A-Za-z_.+-])""",
    re.VERBOSE,
)
_SPACE = re.compile(r"[ \t\n\r]*")
_WORDS = {"true": True, "false": False, "null": None}

# The expected next token, as in the message.
_VALUE, _VALUE_OR_END = "a value", 'a value or "]"'
_KEY, _KEY_OR_END, _COLON = "a name in double quotes", 'a name in double quotes or "}"', '":"'
_REST_OF_LIST, _REST_OF_MAPPING, _END = '"," or "]"', '"," or "}"', "the end"


def may_be_json(text: str) -> bool:
    """Whether the text may be JSON."""
    return text.startswith(("{", "["), _next(text, 0))


def read(text: str, builder: Builder) -> Problem | None:
    """Report the events of `text` to the builder; return the problem if it is not JSON."""
    expected = _VALUE
    marks: list[str] = []  # the open brackets
    for kind, value, line in _tokens(text, builder):
        follows = None
        if kind == "end" and expected == _END:
            return None
        if kind == "mark":
            follows = _mark(value, expected, marks, builder, line)
        elif kind == "text" and expected in (_KEY, _KEY_OR_END):
            builder.key(value, line)
            follows = _COLON
        elif kind in ("text", "value") and expected in (_VALUE, _VALUE_OR_END):
            builder.scalar(value, line)
            follows = _after(marks)
        if follows is None:
            found = value if kind in ("end", "wrong") else json.dumps(value, ensure_ascii=False)
            return Problem(path="", line=line, message=f"not JSON: found {path.shorten(found)}, expected {expected}")
        expected = follows
    raise AssertionError("the tokens have no end token")


def _tokens(text: str, builder: Builder) -> Iterator[tuple[str, Any, int]]:
    """Yield kind, value and line of each token: mark, text, value; the last one is end or wrong."""
    position, line = _next(text, 0), 1 + text.count("\n", 0, _next(text, 0))
    while match := _TOKEN.match(text, position):
        start, position = position, match.end()
        kind, value = str(match.lastgroup), match[0]
        if kind == "mark":
            yield "mark", value, line
        elif kind == "text":
            try:
                string, position = json.decoder.scanstring(text, position, True)  # type: ignore[attr-defined]
            except json.JSONDecodeError as error:
                what = f"text with a mistake ({error.msg.lower()})"
                yield "wrong", what, line + text.count("\n", start, error.pos)
                return
            yield "text", string, line
        elif kind == "infinite":
            raise builder.error(f"found {value}, expected a finite number", line)
        else:
            yield "value", _WORDS[value] if kind == "word" else builder.number(value, line), line
        position = _next(text, position)
        line += text.count("\n", start, position)
    if position == len(text):
        yield "end", "the end", line
    else:
        yield "wrong", json.dumps(text[position : position + 10], ensure_ascii=False), line


def _next(text: str, position: int) -> int:
    """Return the position of the next token."""
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _mark(mark: str, expected: str, marks: list[str], builder: Builder, line: int) -> str | None:
    """Return what may follow a bracket, comma or colon; None if it is not allowed here."""
    if mark in "[{" and expected in (_VALUE, _VALUE_OR_END):
        builder.begin([] if mark == "[" else {}, line)
        marks.append(mark)
        return _VALUE_OR_END if mark == "[" else _KEY_OR_END
    if (mark == "]" and expected in (_VALUE_OR_END, _REST_OF_LIST)) or (
        mark == "}" and expected in (_KEY_OR_END, _REST_OF_MAPPING)
    ):
        marks.pop()
        builder.end()
        return _after(marks)
    if mark == "," and expected in (_REST_OF_LIST, _REST_OF_MAPPING):
        return _VALUE if expected == _REST_OF_LIST else _KEY
    return _VALUE if mark == ":" and expected == _COLON else None


def _after(marks: list[str]) -> str:
    if not marks:
        return _END
    return _REST_OF_LIST if marks[-1] == "[" else _REST_OF_MAPPING
