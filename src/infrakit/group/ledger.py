"""The interfaces that the group controller requires: durable intents, the fencing check, changes of the declaration.

The manager implements them; the controller has no access to the store.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from infrakit.gate.census import Census
from infrakit.group.orders import Eviction
from infrakit.spi.values import GroupID, InstanceID, Slot, Token, Wire


class Intent(Wire, frozen=True, kw_only=True, gc=False):
    """One creation that may be in flight. It is recorded before it is requested, and cleared when it is settled."""

    token: Token
    hash: str  # the version of the instance
    at: float  # seconds since 1970


class Ledger(Protocol):
    """The write-ahead log of calls in flight. A write is one compare-and-swap, and is also a fencing check."""

    def intents(self, group: GroupID) -> Mapping[Slot, Intent]:
        """Return the recorded creations, by slot."""
        ...

    def destroying(self, group: GroupID) -> Collection[InstanceID]:
        """Return the instances that are recorded as being destroyed."""
        ...

    def changing(self, group: GroupID) -> Collection[str]:
        """Return the IDs of the changes of its member list that are recorded as in progress."""
        ...

    async def record(
        self,
        group: GroupID,
        *,
        wanted: Mapping[Slot, str],
        settled: Iterable[Slot],
        destroying: Collection[InstanceID] | None = None,
        changing: Collection[str] | None = None,
    ) -> Mapping[Slot, Intent]:
        """Record an intent for each wanted slot, given its version, and clear the settled ones, in one durable write.

        `destroying` replaces the recorded instances that are being destroyed, and `changing` the recorded changes of
        the member list; None leaves them unchanged.
        Returns the new intents. Raises `NotLeader` when another replica holds the epoch, or `Unreachable`.
        """
        ...

    def withdraw(
        self, group: GroupID, *, slots: Iterable[Slot], destroying: Iterable[InstanceID], changing: Iterable[str] = ()
    ) -> None:
        """Mark records as certainly not started, so that the next leader does not wait for them."""
        ...

    async def prove(self) -> None:
        """Fencing check: verify in the store that this replica still holds the epoch, unless the last check is recent.

        Raises as `record` does.
        """
        ...

    def check(self) -> None:
        """Raise `NotLeader` unless this replica may act at this moment, or `Unreachable` if that is not proven.

        Called after `prove`, immediately before every call that changes infrastructure.
        """
        ...


class CensusStore(Protocol):
    """Keeps the census of each group for the next leader."""

    async def open(self, group: GroupID) -> Census:
        """Stamp the stored census with this epoch, so that the previous leader cannot write it any more; return it.

        Raises `NotLeader` when a newer leader has stamped it, or what the store raises.
        """
        ...

    async def write(self, group: GroupID, census: Census) -> None:
        """Replace the census of a group, in one durable write. Raises as `open` does."""
        ...


class ManagerCallbacks(Protocol):
    """Changes that a controller requests on its own; each becomes a version of the declaration."""

    async def stop_rollout(self, group: GroupID, *, hash: str, rollback: bool, why: str) -> None:  # noqa: A002
        """Pause the rolling update to that version, or declare the last proven version again."""
        ...

    async def proven(self, group: GroupID, *, hash: str) -> None:  # noqa: A002
        """Record that every member of the group is of that version and proven healthy."""
        ...

    async def transfer_leadership(self, why: str) -> bool:
        """Transfer leadership, because this replica's own node is to be destroyed. False: it cannot be transferred."""
        ...

    async def evicted(self, group: GroupID, done: Mapping[InstanceID, Eviction]) -> None:
        """Remove commands to destroy instances from the declaration: the instances have terminated."""
        ...

    async def recovered(self, group: GroupID, instances: Mapping[InstanceID, str]) -> None:
        """Remove the override of MaxUnhealthy for these instances, given with their incarnations."""
        ...

    async def destroyed(self, group: GroupID) -> None:
        """Remove a group from the declaration: it was being destroyed, and all its instances have terminated."""
        ...
