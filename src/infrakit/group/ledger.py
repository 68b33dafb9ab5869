"""What the group controller needs from the manager: durable intents, the fencing check, and changes of the declaration.

The manager implements these; the controller sees no store.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from infrakit.spi.values import GroupID, InstanceID, Slot, Token, Wire


class Intent(Wire, frozen=True, kw_only=True, gc=False):
    """One creation that may be under way. Recorded before it is asked for, cleared when it is settled."""

    token: Token
    hash: str  # the version it makes
    at: float  # seconds since 1970


class Ledger(Protocol):
    """The write-ahead record of what is under way: a write is one compare-and-swap, which also proves the epoch."""

    def intents(self, group: GroupID) -> Mapping[Slot, Intent]:
        """The creations that are recorded now."""
        ...

    def ending(self, group: GroupID) -> Collection[InstanceID]:
        """The instances that are recorded now as being destroyed."""
        ...

    async def record(
        self,
        group: GroupID,
        *,
        wanted: Mapping[Slot, str],
        settled: Iterable[Slot],
        ending: Collection[InstanceID] | None = None,
    ) -> Mapping[Slot, Intent]:
        """Record an intent for each wanted slot (by the hash to make) and clear the settled, in one durable write.

        `ending` replaces what is recorded as being destroyed; None leaves it.
        Returns the new intents. Raises `NotLeader` when another replica holds the epoch, or `Unreachable`.
        """
        ...

    def withdraw(self, group: GroupID, *, slots: Iterable[Slot], ending: Iterable[InstanceID]) -> None:
        """These were recorded and certainly not started: the next leader need not wait for them."""
        ...

    async def prove(self) -> None:
        """Fencing check: prove that the epoch is ours, unless the last proof is recent. Raises as `record` does."""
        ...

    def check(self) -> None:
        """Raise `NotLeader` unless this replica may act at this moment, or `Unreachable` if that is not proven.

        Asked right before every call that changes anything, after `prove`.
        """
        ...


class ManagerCallbacks(Protocol):
    """Changes that a controller requests by itself; each becomes a version of the declaration."""

    async def stop_roll(self, group: GroupID, *, hash: str, rollback: bool, why: str) -> None:  # noqa: A002
        """Pause the rolling update to that version, or declare the previous version again."""
        ...

    async def transfer_leadership(self, why: str) -> bool:
        """Our own node is to be destroyed: let another replica lead. False: the quorum has no call for that."""
        ...

    async def destroyed(self, group: GroupID) -> None:
        """No instance of a group that is being destroyed is left: forget the group."""
        ...
