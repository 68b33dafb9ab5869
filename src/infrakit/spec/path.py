"""Where something stands in a document: `Init[2]`, `Attachments["10.0.0.1"][0].ID`.

Inside this package a place is a tuple of steps, a name for a mapping and a number for a list. People and plugins see
text. Names that would be ambiguous in it are quoted, so that the text can be read back into the same steps.
"""

import json
import re

Steps = tuple[str | int, ...]

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP = re.compile(r'\.?([^.\[\]"]+)|\[([0-9]{1,9})\]|\[("(?:[^"\\]|\\.)*")\]')
_NAME_SHOWN_MAX = 64


def join(steps: Steps) -> str:
    """Steps as text. A name of absurd length is cut: it is there to be recognised."""
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
    """Text as steps. What a plugin of another make wrote and we cannot read becomes one last name."""
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
    """At most 64 characters of it."""
    return text if len(text) <= _NAME_SHOWN_MAX else text[: _NAME_SHOWN_MAX - 1] + "…"


def _unquoted(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return quoted[1:-1]
