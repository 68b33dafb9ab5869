"""Operator commands for a group. They are stored with its declaration, and only an operator lifts them.

A command for an instance is for one *incarnation* of its ID, because some providers use an ID again: for the instance
that has the same token, or else the same time of creation, as the one that the operator has seen.
"""

from collections.abc import Mapping

import msgspec

from infrakit.spi import values
from infrakit.spi.manager import Halt
from infrakit.spi.values import InstanceID, Wire


def incarnation(tags: Mapping[str, str] | None) -> str:
    """Return what distinguishes an instance from earlier and later ones with its ID; empty: its tags do not show it."""
    return (tags or {}).get(values.TAG_TOKEN) or (tags or {}).get(values.TAG_CREATED) or ""


class Eviction(Wire, frozen=True, kw_only=True, gc=False):
    """A command to destroy one instance."""

    who: str
    when: str
    why: str
    incarnation: str = ""  # of the instance; empty: any, until an instance with this ID has terminated

    def concerns(self, tags: Mapping[str, str] | None) -> bool:
        """Whether the instance with these tags is the one that the operator has named."""
        return self.incarnation in ("", incarnation(tags))


class RolloutStop(Wire, frozen=True, kw_only=True, gc=False):
    """A command to pause or abort the rolling update to the version `hash`. Later versions are not affected."""

    hash: str
    aborted: bool = False
    failed: bool = False  # InfraKit has paused it, because an instance of the version has failed
    who: str
    when: str
    why: str


class Orders(Wire, frozen=True, kw_only=True):
    """All commands for one group. A command for a terminated instance has no effect on a later one with its ID."""

    halt: Halt | None = None
    roll: RolloutStop | None = None
    evictions: dict[InstanceID, Eviction] = msgspec.field(default_factory=dict)
    # These may be replaced although more than MaxUnhealthy members are unhealthy.
    despite_unhealthy: tuple[InstanceID, ...] = ()
    incarnations: dict[InstanceID, str] = msgspec.field(default_factory=dict)  # of those in `despite_unhealthy`
    destroying: Halt | None = None  # who, when and why; the group is removed once all its instances have terminated
    restored: str = ""  # the version that a rollback declared: if it fails too, its rolling update is paused
    resumed: str = ""  # ISO 8601, when an operator last resumed the group: earlier failures are retried at once
    volumes: bool = False  # destroying the group deletes its attachments, too

    def eviction(self, instance: InstanceID, tags: Mapping[str, str] | None) -> Eviction | None:
        """Return the command to destroy the instance that has this ID and these tags, if there is one."""
        command = self.evictions.get(instance)
        return command if command is not None and command.concerns(tags) else None

    def is_replaced_despite_unhealthy(self, instance: InstanceID, tags: Mapping[str, str] | None) -> bool:
        """Whether an operator allows to replace it although more than MaxUnhealthy members are unhealthy."""
        named = instance in self.despite_unhealthy
        return named and self.incarnations.get(instance, "") in ("", incarnation(tags))
