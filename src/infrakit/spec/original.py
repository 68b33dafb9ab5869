"""The original's fields for a rolling update, converted to ours.

`Duration` is `Settle`. `Count` requires so many healthy checks in a row, one per poll interval, and becomes their total
time. `SkipBeforeInstanceDestroy: drain` is `Drain: false`. Zero means unset, as the original writes it.
"""

from collections.abc import Iterator
from typing import Any, Literal

from infrakit.spec.schema import Finding
from infrakit.spi import group as spi_group

POLL_INTERVAL_S = 10  # the original's


class Updating(spi_group.Updating, frozen=True, kw_only=True):
    """`Updating` with the original's fields. None: not set."""

    settle: spi_group.DurationText | None = None  # type: ignore[assignment]
    drain: bool | None = None  # type: ignore[assignment]
    duration: spi_group.DurationText | None = None  # the original's field for `Settle`
    count: spi_group.Count | None = None  # the original's: healthy checks in a row, ten seconds each
    skip_before_instance_destroy: Literal["drain"] | None = None  # the original's field for `Drain: false`


class Properties(spi_group.GroupProperties, frozen=True, kw_only=True):
    """`GroupProperties` with the original's fields."""

    updating: Updating = Updating()


def translated(properties: Properties) -> spi_group.GroupProperties:
    """Convert to our fields. `conflicts` has been checked before, so each setting is given in at most one way."""
    declared = properties.updating
    settle = declared.settle
    if declared.duration is not None and spi_group.seconds(declared.duration) > 0:
        settle = declared.duration
    elif declared.count:
        settle = f"{declared.count * POLL_INTERVAL_S}s"
    updating = spi_group.Updating(
        max_unavailable=declared.max_unavailable,
        max_surge=declared.max_surge,
        settle=spi_group.Updating().settle if settle is None else settle,
        on_failure=declared.on_failure,
        canary=declared.canary,
        bake_time=declared.bake_time,
        progress_deadline=declared.progress_deadline,
        drain=declared.skip_before_instance_destroy is None if declared.drain is None else declared.drain,
        drain_timeout=declared.drain_timeout,
    )
    return spi_group.GroupProperties(
        allocation=properties.allocation,
        instance=properties.instance,
        flavor=properties.flavor,
        updating=updating,
        healing=properties.healing,
    )


def conflicts(updating: dict[str, Any]) -> Iterator[Finding]:
    """Yield settings that are given in both our and the original's fields."""
    pairs = [("Settle", "Duration"), ("Settle", "Count"), ("Duration", "Count"), ("Drain", "SkipBeforeInstanceDestroy")]
    for first, second in pairs:
        if _is_set(updating.get(first), first) and _is_set(updating.get(second), second):
            yield Finding(("Updating", second), f"{first} and {second} are the same setting", f"keep {first}")


def _is_set(value: Any, word: str) -> bool:
    if word == "Duration" and isinstance(value, str):
        try:
            return spi_group.seconds(value) > 0
        except ValueError:
            return True
    return value is not None and not (word == "Count" and value == 0)
