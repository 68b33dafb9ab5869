"""Functions that read the metadata tree, from a snapshot. Only `metadata.wait` waits for a value."""

import re

from infrakit.spi.errors import NotFound
from infrakit.spi.metadata import Facts
from infrakit.template.failures import Fault, nearest, string_argument
from infrakit.template.functions.table import ABSENT, Function, function
from infrakit.template.run import Frame
from infrakit.template.scope import normal

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def lookup(facts: Facts, path: str) -> object:
    """Return the value at `path`; None if it does not exist."""
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
    """Return the value at a path of the metadata tree, else the default. Without a default, it must exist."""
    key = _key(path)
    facts = frame.run.scope.facts
    value = lookup(facts, key) if facts is not None else None
    if value is not None:
        frame.run.record_need(frame, "metadata", key, "metadata")
        return value
    frame.run.record_need(frame, "metadata", key, "" if default is ABSENT else "default")
    if default is not ABSENT:
        return default
    raise _missing(facts, key)


@function(
    "metadata.wait(path, timeout)",
    example="{{ metadata.wait('host/region', '10s') }}",
    result="north",
)
def _wait(frame: Frame, path: str, timeout: float | str) -> object:
    """Wait for the value at a path: seconds, or a duration such as `30s`, within the time limit of the render."""
    key = _key(path)
    facts = frame.run.scope.facts
    if facts is None:
        raise _missing(facts, key)
    try:
        value = facts.wait(key, min(_seconds(timeout), frame.run.budget.remaining_s()))
    except NotFound:
        frame.run.record_need(frame, "metadata", key, "")
        raise Fault(f"there is no metadata at {key!r} after {timeout}", "see: infrakit metadata ls") from None
    frame.run.record_need(frame, "metadata", key, "metadata")
    return value


def _seconds(timeout: float | str) -> float:
    if isinstance(timeout, int | float) and timeout >= 0:
        return float(timeout)
    duration = str(timeout)
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise Fault(f"{duration!r} is not a duration", "write seconds, or 10s, 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _missing(facts: Facts | None, path: str) -> Fault:
    if facts is None:
        return Fault(f"there is no metadata at {path!r}: no metadata is available here", "give a default")
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
    return normal(string_argument(name, "metadata"))
