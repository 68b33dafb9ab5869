"""What the group controller asks of the manager: durable intents, the right to act, and orders of its own.

The manager implements these; the controller sees no store.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from infrakit.spi.values import GroupID, Slot, Token, Wire


class Intent(Wire, frozen=True, kw_only=True, gc=False):
    """One creation that may be under way. Recorded before it is asked for, cleared when it is settled."""

    token: Token
    hash: str  # the version it makes
    at: float  # seconds since 1970


class Ledger(Protocol):
    """The write-ahead record of intents, one batched compare-and-swap a write, which also proves the epoch."""

    def intents(self, group: GroupID) -> Mapping[Slot, Intent]:
        """What is recorded now."""
        ...

    async def record(
        self, group: GroupID, *, wanted: Mapping[Slot, str], settled: Iterable[Slot]
    ) -> Mapping[Slot, Intent]:
        """Record an intent for each wanted slot (by the hash to make) and clear the settled, in one durable write.

        Returns the new intents. Raises `NotLeader` when another replica holds the epoch, or `Unreachable`.
        """
        ...

    def check(self) -> None:
        """Raise `NotLeader` unless this replica may act now. Asked before every call that changes anything."""
        ...


class Superior(Protocol):
    """Orders that a controller gives in its operator's place; each becomes a version of the declaration."""

    async def stop_roll(self, group: GroupID, *, hash: str, rollback: bool, why: str) -> None:  # noqa: A002
        """Pause the roll to that version, or declare the previous version again."""
        ...

    async def destroyed(self, group: GroupID) -> None:
        """Nothing of a group that is being destroyed is left: forget it."""
        ...
