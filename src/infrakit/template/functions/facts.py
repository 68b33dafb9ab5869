"""The metadata tree, as a snapshot; only `metadata.wait` waits."""

import re

from infrakit.spi.errors import NotFound
from infrakit.spi.metadata import Facts
from infrakit.template.failures import Fault, nearest, text
from infrakit.template.functions.table import ABSENT, Function, function
from infrakit.template.run import Frame
from infrakit.template.scope import normal

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def looked_up(facts: Facts, path: str) -> object:
    """The value at `path`; None if there is none."""
    try:
        return facts.get(path)
    except NotFound:
        return None


@function(
    "metadata(path, default)",
    example="{{ metadata('host/region') }} {{ metadata('host/zone', 'none') }}",
    result="north none",
)
def _metadata(frame: Frame, path: str, default: object = ABSENT) -> object:
    """The value at a path of the metadata tree, else the default; without one it must be there."""
    key = _key(path)
    facts = frame.run.scope.facts
    value = looked_up(facts, key) if facts is not None else None
    if value is not None:
        frame.run.need(frame, "metadata", key, "metadata")
        return value
    frame.run.need(frame, "metadata", key, "" if default is ABSENT else "default")
    if default is not ABSENT:
        return default
    raise _missing(facts, key)


@function(
    "metadata.wait(path, timeout)",
    example="{{ metadata.wait('host/region', '10s') }}",
    result="north",
)
def _wait(frame: Frame, path: str, timeout: float | str) -> object:
    """The value at a path, waited for: seconds, or a duration such as `30s`, within the time that a render may take."""
    key = _key(path)
    facts = frame.run.scope.facts
    if facts is None:
        raise _missing(facts, key)
    try:
        value = facts.wait(key, min(_seconds(timeout), frame.run.budget.remaining_s()))
    except NotFound:
        frame.run.need(frame, "metadata", key, "")
        raise Fault(f"there is no metadata at {key!r} after {timeout}", "see: infrakit metadata ls") from None
    frame.run.need(frame, "metadata", key, "metadata")
    return value


def _seconds(timeout: float | str) -> float:
    if isinstance(timeout, int | float) and timeout >= 0:
        return float(timeout)
    duration = str(timeout)
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise Fault(f"{duration!r} is no duration", "write seconds, or 10s, 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _missing(facts: Facts | None, path: str) -> Fault:
    if facts is None:
        return Fault(f"there is no metadata at {path!r}: there is none here at all", "give a default")
    parent, _, last = path.rpartition("/")
    while parent and facts.keys(parent) is None:
        parent, _, last = parent.rpartition("/")
    known = facts.keys(parent) or ()
    near = nearest(last, known)
    within = f"; below {parent or 'the root'!r} there is {', '.join(map(repr, list(known)[:5]))}" if known else ""
    return Fault(f"there is no metadata at {path!r}{'' if near else within}", near)


metadata = Function(
    _metadata.body,
    signature=_metadata.signature,
    help=_metadata.help,
    example=_metadata.example,
    result=_metadata.result,
    members={"wait": _wait},
)


def _key(name: object) -> str:
    return normal(text(name, "metadata"))
