"""What operators ordered for a group besides its declaration; kept in the store with it, lifted only by an operator."""

import msgspec

from infrakit.spi.manager import Halt
from infrakit.spi.values import InstanceID, Wire


class Eviction(Wire, frozen=True, kw_only=True, gc=False):
    """Destroy this one instance."""

    who: str
    when: str
    why: str


class RollOrder(Wire, frozen=True, kw_only=True, gc=False):
    """Stop the roll to `hash`: `paused` until resumed, `aborted` for good. A later version is not affected."""

    hash: str
    aborted: bool = False
    who: str
    when: str
    why: str


class Orders(Wire, frozen=True, kw_only=True):
    """Everything ordered for one group. IDs are never used twice, so an order for a dead instance is harmless."""

    halt: Halt | None = None
    roll: RollOrder | None = None
    evictions: dict[InstanceID, Eviction] = msgspec.field(default_factory=dict)
    despite_unhealthy: tuple[InstanceID, ...] = ()  # these may be replaced though too many look sick
    destroying: Halt | None = None  # who, when and why; the group goes once nothing of it is left
    restored: str = ""  # the version that a rollback declared: if it fails too, its roll is paused
    resumed: str = ""  # ISO 8601, when an operator said so last: what has failed before that is retried at once
    volumes: bool = False  # destroying takes the attachments too
