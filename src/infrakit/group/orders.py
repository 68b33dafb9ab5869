"""Commands of operators for a group; stored with its declaration, lifted only by an operator."""

import msgspec

from infrakit.spi.manager import Halt
from infrakit.spi.values import InstanceID, Wire


class Eviction(Wire, frozen=True, kw_only=True, gc=False):
    """Destroy this one instance."""

    who: str
    when: str
    why: str


class RollOrder(Wire, frozen=True, kw_only=True, gc=False):
    """Stop the rolling update to `hash`: `paused` until resumed, or `aborted`. Later versions are not affected."""

    hash: str
    aborted: bool = False
    who: str
    when: str
    why: str


class Orders(Wire, frozen=True, kw_only=True):
    """All commands for one group. IDs are never reused, so a command for a terminated instance is harmless."""

    halt: Halt | None = None
    roll: RollOrder | None = None
    evictions: dict[InstanceID, Eviction] = msgspec.field(default_factory=dict)
    despite_unhealthy: tuple[
        InstanceID, ...
    ] = ()  # these may be replaced although more than MaxUnhealthy members are unhealthy
    destroying: Halt | None = None  # who, when and why; the group goes once nothing of it is left
    restored: str = ""  # the version that a rollback declared: if it fails too, its rolling update is paused
    resumed: str = ""  # ISO 8601, when an operator last resumed the group: earlier failures are retried at once
    volumes: bool = False  # destroying takes the attachments too
