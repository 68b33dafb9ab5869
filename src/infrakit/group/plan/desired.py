"""The desired state of a group: its declaration and the operator commands for it, as input of the planner."""

import msgspec

from infrakit.group.orders import Orders
from infrakit.spi.group import Group, amount, seconds
from infrakit.spi.quorum import can_lose
from infrakit.spi.values import LogicalID, Slot


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """The desired state of one group. With the view, it is the input of the planner."""

    group: Group
    previous_hash: str = ""  # the version before the declared one; empty: none
    orders: Orders = Orders()
    conflict: str = ""  # why the declaration contradicts that of another group; empty: it does not
    quorum: bool = False
    tokens: bool = False  # the provider honours tokens: a retry never creates a second instance

    @property
    def size(self) -> int:
        allocation = self.group.properties.allocation
        return len(allocation.logical_ids) if allocation.logical_ids is not None else allocation.size or 0

    @property
    def logical_ids(self) -> tuple[LogicalID, ...]:
        return self.group.properties.allocation.logical_ids or ()

    @property
    def hash(self) -> str:
        """The version of new instances: the declared one, or the previous one if its rollout was aborted or failed.

        A declared version is not proven. After a rollback, the previous version is the one that was rolled back: it
        has failed too, so it is not used.
        """
        roll = self.orders.roll
        if roll is None or roll.hash != self.group.hash or not self.previous_hash:
            return self.group.hash
        failed = roll.failed and self.orders.restored != self.group.hash
        return self.previous_hash if roll.aborted or failed else self.group.hash

    @property
    def rollout_stopped(self) -> bool:
        """Whether a command has paused or aborted the rolling update to the declared version."""
        return self.orders.roll is not None and self.orders.roll.hash == self.group.hash

    @property
    def can_lose(self) -> int:
        """How many members a quorum can lose; at least 1.

        A quorum of one or two members cannot lose any. It would never be healed or updated if that limit applied, so
        its members are replaced one at a time.
        """
        return max(1, can_lose(self.size))

    @property
    def max_unavailable(self) -> int:
        declared = amount(self.group.properties.updating.max_unavailable, self.size)
        if not declared and not self.max_surge:
            declared = 1  # a percentage rounded to 0, and no surge: no update could ever start
        return min(declared, self.can_lose) if self.quorum else declared

    @property
    def max_surge(self) -> int:
        return 0 if self.group.is_pets else amount(self.group.properties.updating.max_surge, self.size)

    @property
    def max_unhealthy(self) -> int:
        """How many members may be unhealthy before destruction stops."""
        declared = self.group.properties.healing.max_unhealthy
        if declared is None:
            limit = self.can_lose if self.quorum else max(1, self.size * 40 // 100)
        else:
            limit = amount(declared, self.size) or int(isinstance(declared, str))  # a percentage allows at least 1
        return min(limit, self.can_lose) if self.quorum else limit

    @property
    def boot_grace_s(self) -> float:
        return seconds(self.group.properties.healing.boot_grace)

    @property
    def unhealthy_after_s(self) -> float:
        return seconds(self.group.properties.healing.unhealthy_after)

    @property
    def settle_s(self) -> float:
        return seconds(self.group.properties.updating.settle)

    def sequence(self, slot: Slot) -> int:
        """Return the ordinal of a slot, from 1: for cattle the slot, for pets its position in LogicalIDs; 0 if none."""
        if not self.group.is_pets:
            return int(slot) if slot.isdecimal() else 1  # of a pet, from before the group became cattle
        return self.logical_ids.index(LogicalID(slot)) + 1 if LogicalID(slot) in self.logical_ids else 0
