"""The rules for a group's properties beyond their types.

The rules read plain values and skip those of the wrong type, so that their findings are reported together with those of
the schema, all at once.
"""

import re
from collections.abc import Iterator
from typing import Any

from infrakit.spec import original, path
from infrakit.spec.schema import Finding
from infrakit.spi.group import DURATION_PATTERN, Healing, Updating, seconds


def findings(properties: dict[str, Any]) -> Iterator[Finding]:
    """Yield every problem of the properties of one group, from which nulls have been removed."""
    allocation, updating, healing = (properties.get(name) for name in ("Allocation", "Updating", "Healing"))
    if isinstance(allocation, dict):
        yield from _allocation(allocation)
    if isinstance(updating, dict):
        is_pets = isinstance(allocation, dict) and "LogicalIDs" in allocation
        yield from _updating(updating, is_pets=is_pets)
        yield from original.conflicts(updating)
    if isinstance(healing, dict):
        yield from _healing(healing)


def _allocation(allocation: dict[str, Any]) -> Iterator[Finding]:
    if "Size" in allocation and "LogicalIDs" in allocation:
        yield Finding(
            ("Allocation",),
            "found both Size and LogicalIDs, expected exactly one",
            "Size for cattle, LogicalIDs for pets",
        )
    # The schema reports an allocation whose fields are misspelt.
    if not allocation:
        yield Finding(
            ("Allocation",),
            "found neither Size nor LogicalIDs, expected exactly one",
            "Size for cattle, LogicalIDs for pets",
        )
    first: dict[str, int] = {}
    logical_ids = allocation.get("LogicalIDs")
    for index, logical_id in enumerate(logical_ids if isinstance(logical_ids, list) else []):
        if isinstance(logical_id, str) and first.setdefault(logical_id, index) != index:
            message = f'the logical ID "{path.shorten(logical_id)}" is already LogicalIDs[{first[logical_id]}]'
            yield Finding(("Allocation", "LogicalIDs", index), message, "a logical ID has at most one instance")


def _updating(updating: dict[str, Any], *, is_pets: bool) -> Iterator[Finding]:
    surge, unavailable = updating.get("MaxSurge", 0), updating.get("MaxUnavailable", 1)
    if is_pets and isinstance(surge, int | str) and not _is_zero(surge):
        hint = "a logical ID has at most one instance, so no second one can be created first"
        yield Finding(("Updating", "MaxSurge"), "expected 0 for pets", hint)
    elif _is_zero(surge) and _is_zero(unavailable):
        message = "found MaxUnavailable and MaxSurge both 0, expected one above 0"
        yield Finding(("Updating", "MaxUnavailable"), message, "otherwise no update could begin")
    yield from _progress_deadline(updating)


def _progress_deadline(updating: dict[str, Any]) -> Iterator[Finding]:
    """A deadline within the time for which a healthy instance is awaited would fail every rolling update."""
    deadline = updating.get("ProgressDeadline")
    waits = {name: updating.get(name) for name in ("BakeTime", "Settle", "Duration")}
    waits["Settle"] = waits["Settle"] or (None if "Duration" in updating or "Count" in updating else Updating().settle)
    if isinstance(updating.get("Count"), int):
        waits["Count"] = f"{updating['Count'] * original.POLL_INTERVAL_S}s"
    for name, wait in waits.items():
        if _is_duration(deadline) and _is_duration(wait) and seconds(deadline) <= seconds(wait):
            message = f"found {deadline}, expected more than {name} ({wait})"
            hint = "it begins again with each new instance that becomes healthy, and with each that stays healthy"
            yield Finding(("Updating", "ProgressDeadline"), message, hint)
            return


def _healing(healing: dict[str, Any]) -> Iterator[Finding]:
    first, longest = healing.get("Backoff", Healing().backoff), healing.get("BackoffMax", Healing().backoff_max)
    if not _is_duration(first) or not _is_duration(longest):
        return  # the schema reports it
    if seconds(first) > seconds(longest):
        place = "Backoff" if "Backoff" in healing else "BackoffMax"
        message = f"found Backoff {first} and BackoffMax {longest}, expected Backoff to be the shorter"
        hint = "" if healing.keys() >= {"Backoff", "BackoffMax"} else "the omitted one has its default"
        yield Finding(("Healing", place), message, hint)


def _is_duration(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(DURATION_PATTERN, text) is not None


def _is_zero(amount: Any) -> bool:
    return amount in (0, "0%", "00%")
