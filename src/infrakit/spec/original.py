"""The original's words for a rolling update, turned into ours.

`Duration` is what `Settle` is here. `Count` asks for so many healthy looks in a row, one each poll interval,
and becomes the time they take. `SkipBeforeInstanceDestroy: drain` is `Drain: false`.
Zero means unset, as the original writes it.
"""

from collections.abc import Iterator
from typing import Any, Literal

from infrakit.spec.schema import Finding
from infrakit.spi import group as spi_group

POLL_INTERVAL_S = 10  # the original's


class Updating(spi_group.Updating, frozen=True, kw_only=True):
    """As a document may spell it. None: not said."""

    settle: spi_group.DurationText | None = None  # type: ignore[assignment]
    drain: bool | None = None  # type: ignore[assignment]
    duration: spi_group.DurationText | None = None  # the original's word for `Settle`
    count: spi_group.Count | None = None  # the original's: healthy looks in a row, ten seconds each
    skip_before_instance_destroy: Literal["drain"] | None = None  # the original's word for `Drain: false`


class Properties(spi_group.GroupProperties, frozen=True, kw_only=True):
    """`GroupProperties` as a document may spell them."""

    updating: Updating = Updating()


def translated(properties: Properties) -> spi_group.GroupProperties:
    """In our words. `conflicts` has been asked before: at most one way to say each thing is used."""
    said = properties.updating
    settle = said.settle
    if said.duration is not None and spi_group.seconds(said.duration) > 0:
        settle = said.duration
    elif said.count:
        settle = f"{said.count * POLL_INTERVAL_S}s"
    updating = spi_group.Updating(
        max_unavailable=said.max_unavailable,
        max_surge=said.max_surge,
        settle=spi_group.Updating().settle if settle is None else settle,
        on_failure=said.on_failure,
        drain=said.skip_before_instance_destroy is None if said.drain is None else said.drain,
        drain_timeout=said.drain_timeout,
    )
    return spi_group.GroupProperties(
        allocation=properties.allocation,
        instance=properties.instance,
        flavor=properties.flavor,
        updating=updating,
        healing=properties.healing,
    )


def conflicts(updating: dict[str, Any]) -> Iterator[Finding]:
    """The same thing said in two ways."""
    pairs = [("Settle", "Duration"), ("Settle", "Count"), ("Duration", "Count"), ("Drain", "SkipBeforeInstanceDestroy")]
    for first, second in pairs:
        if _is_said(updating.get(first), first) and _is_said(updating.get(second), second):
            yield Finding(("Updating", second), f"{first} and {second} say the same in two ways", f"keep {first}")


def _is_said(value: Any, word: str) -> bool:
    if word == "Duration" and isinstance(value, str):
        try:
            return spi_group.seconds(value) > 0
        except ValueError:
            return True
    return value is not None and not (word == "Count" and value == 0)
