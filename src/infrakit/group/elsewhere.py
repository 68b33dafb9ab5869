"""Creations of other groups that may be in flight: they may bear logical IDs that a group declares now (law 2).

A logical ID moves between groups when one is freed, or when one commit takes it from a group and gives it to another.
The creation is recorded for the group that had it, and no listing may show its instance yet. Until that is settled, or
can no longer take effect and be omitted from a listing, it is described like an instance of the other group.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.group.ledger import Intent
from infrakit.group.state.creation import Creation, Phase
from infrakit.spi.group import Group
from infrakit.spi.values import Description, GroupID, Slot

Elsewhere = Callable[[float], Sequence[Description]]  # given the loop time at which the newest listing started


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """Another group that has recorded creations."""

    name: GroupID
    creating: Mapping[Slot, Intent]
    versions: tuple[Group, ...] = ()  # the declared one, and the one before; empty: it is not declared any more
    undeclared_since: float = math.inf  # loop time; its calls had begun by then


def creations(others: Iterable[Other], *, plugin: str, listed_from: float, lag_s: float) -> list[Description]:
    """Describe the instances on this plugin that other groups may be creating, and no listing may show yet.

    `listed_from`: loop time at which the newest listing started.
    """
    found = []
    for other in others:
        if listed_from > other.undeclared_since + CALL_DEADLINE_S + lag_s:
            continue  # what it has created is listed
        for slot, intent in other.creating.items():
            if not other.versions or _has_logical_id(slot, other.versions, plugin):
                creation = Creation(intent=intent, phase=Phase.UNKNOWN, ended_at=0.0)
                found.append(creation.described(slot, group=other.name, pets=True))
    return found


def _has_logical_id(slot: Slot, versions: Iterable[Group], plugin: str) -> bool:
    """Whether the slot is a logical ID on this plugin in one of the versions; cattle that were pets may have some."""
    return any(
        each.properties.instance.plugin == plugin and (each.is_pets or not slot.isdecimal()) for each in versions
    )
