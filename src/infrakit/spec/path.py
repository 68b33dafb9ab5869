"""Paths in a document: `Init[2]`, `Attachments["10.0.0.1"][0].ID`.

Inside this package a path is a tuple of steps: a name for a mapping, a number for a list. Users and plugins see text.
Ambiguous names are quoted in it, so that the text can be parsed back into the same steps.
"""

import json
import re

Steps = tuple[str | int, ...]

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP = re.compile(r'\.?([^.\[\]"]+)|\[([0-9]{1,9})\]|\[("(?:[^"\\]|\\.)*")\]')
_NAME_SHOWN_MAX = 64


def join(steps: Steps) -> str:
    """Return steps as text. An overlong name is truncated."""
    parts: list[str] = []
    for step in steps:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif len(step) <= _NAME_SHOWN_MAX and _PLAIN_NAME.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f"[{json.dumps(shorten(step), ensure_ascii=False)}]")
    return "".join(parts)


def split(text: str) -> Steps:
    """Parse text to steps. A part that a foreign plugin wrote in another syntax becomes one last name."""
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            return (*steps, text[position:])
        name, index, quoted = match.groups()
        if name is not None:
            steps.append(name)
        else:
            steps.append(int(index) if index is not None else _unquoted(quoted))
        position = match.end()
    return tuple(steps)


def shorten(text: str) -> str:
    """Truncate a text to 64 characters."""
    return text if len(text) <= _NAME_SHOWN_MAX else text[: _NAME_SHOWN_MAX - 1] + "…"


def _unquoted(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return quoted[1:-1]
