"""Operator commands for a group. They are stored with its declaration, and only an operator lifts them."""

import msgspec

from infrakit.spi.manager import Halt
from infrakit.spi.values import InstanceID, Wire


class Eviction(Wire, frozen=True, kw_only=True, gc=False):
    """A command to destroy one instance."""

    who: str
    when: str
    why: str


class RolloutStop(Wire, frozen=True, kw_only=True, gc=False):
    """A command to pause or abort the rolling update to the version `hash`. Later versions are not affected."""

    hash: str
    aborted: bool = False
    failed: bool = False  # InfraKit has paused it, because an instance of the version has failed
    who: str
    when: str
    why: str


class Orders(Wire, frozen=True, kw_only=True):
    """All commands for one group. Instance IDs are never reused, so a command for a terminated one has no effect."""

    halt: Halt | None = None
    roll: RolloutStop | None = None
    evictions: dict[InstanceID, Eviction] = msgspec.field(default_factory=dict)
    # These may be replaced although more than MaxUnhealthy members are unhealthy.
    despite_unhealthy: tuple[InstanceID, ...] = ()
    destroying: Halt | None = None  # who, when and why; the group is removed once all its instances have terminated
    restored: str = ""  # the version that a rollback declared: if it fails too, its rolling update is paused
    resumed: str = ""  # ISO 8601, when an operator last resumed the group: earlier failures are retried at once
    volumes: bool = False  # destroying the group deletes its attachments, too
