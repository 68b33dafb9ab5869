"""The desired state of a group: its declaration and the operator commands for it, as input of the planner."""

import math
from collections.abc import Mapping

import msgspec

from infrakit.group.orders import Orders, RolloutStop
from infrakit.group.state.member import Member
from infrakit.group.versions import MemberVersions
from infrakit.spi.group import Group, amount, seconds
from infrakit.spi.quorum import can_lose
from infrakit.spi.values import BOOTSTRAP, LogicalID, Slot


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """The desired state of one group. With the view, it is the input of the planner."""

    group: Group
    previous: Group | None = None  # the version before the declared one
    proven: Group | None = None  # the last version with which every member was proven healthy; None: none is recorded
    versions: MemberVersions = MemberVersions()  # of the declared version
    earlier: Mapping[str, MemberVersions] = {}  # of the previous and of the proven version, by their hash
    orders: Orders = Orders()
    conflict: str = ""  # why the declaration contradicts that of another group; empty: it does not
    quorum: bool = False
    paced: bool = True  # False: a forecast, which removes all surplus members in one step
    tokens: bool = False  # the provider honours tokens: a retry never creates a second instance

    @property
    def size(self) -> int:
        allocation = self.group.properties.allocation
        return len(allocation.logical_ids) if allocation.logical_ids is not None else allocation.size or 0

    @property
    def logical_ids(self) -> tuple[LogicalID, ...]:
        return self.group.properties.allocation.logical_ids or ()

    @property
    def pet_ids(self) -> frozenset[LogicalID]:
        return frozenset(self.logical_ids)

    @property
    def hash(self) -> str:
        """The version of new instances: the declared one, or the proven one while its rolling update is stopped.

        An earlier release has recorded no proven version. Then it is the previous one, if the update was aborted or
        failed. After a rollback that is the version which was rolled back: it has failed too, so it is not used.
        """
        roll = self.orders.roll
        if roll is None or roll.hash != self.group.hash:
            return self.group.hash
        if self.proven is not None:
            return self.proven.hash
        failed = roll.failed and self.orders.restored != self.group.hash
        return self.previous.hash if self.previous is not None and (roll.aborted or failed) else self.group.hash

    @property
    def is_unproven(self) -> bool:
        """Whether another version than the declared one is proven. This is stored: a new leader knows it at once."""
        return self.proven is not None and self.proven.hash != self.group.hash

    @property
    def rolls_back_to(self) -> Group | None:
        """The version that an automatic rollback declares; None: there is none, or it is the declared one."""
        if self.proven is not None:
            return self.proven if self.is_unproven else None
        return self.previous if self.orders.restored != self.group.hash else None

    def version(self, version: str) -> Group:
        """Return what instances of that version are created from: the declared one, or one that it falls back to."""
        for other in (self.proven, self.previous):
            if other is not None and version == other.hash != self.group.hash:
                return self.group.made_from(other)
        return self.group

    def knows(self, version: str) -> bool:
        """Whether it is a version that was declared before, as far as that is recorded."""
        return any(each is not None and version == each.hash for each in (self.previous, self.proven))

    def is_current(self, member: Member) -> bool:
        """Whether it is of the declared version, or nothing has changed that it is made from."""
        return self.group.hash in (member.hash, member.listed_hash) or self.is_unchanged(member)

    def is_unchanged(self, member: Member) -> bool:
        """Whether nothing has changed that a member of another version is made from.

        What it was made from is known from its tag, or, without that, if it is of the previous or the proven version.
        """
        wanted = self.versions.of(member.logical_id)
        if not wanted or member.hash == BOOTSTRAP:
            return False
        before = self.earlier.get(member.hash, MemberVersions()).of(member.logical_id)
        return wanted in (member.made_from, before)

    def member_version(self, version: str, logical_id: LogicalID | None) -> str:
        """Return the member version of an instance that is created from a version of the group; empty: not known."""
        versions = self.versions if version == self.group.hash else self.earlier.get(version, self.versions)
        return versions.of(logical_id)

    @property
    def stop(self) -> RolloutStop | None:
        """The command that has paused or aborted the rolling update to the declared version; None: none has."""
        roll = self.orders.roll
        return roll if roll is not None and roll.hash == self.group.hash else None

    @property
    def rollout_stopped(self) -> bool:
        """Whether a command has paused or aborted the rolling update to the declared version."""
        return self.stop is not None

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

    @property
    def bake_s(self) -> float:
        """How long new members must stay healthy until they prove their version."""
        declared = self.group.properties.updating.bake_time
        return self.settle_s if isinstance(declared, msgspec.UnsetType) else max(self.settle_s, seconds(declared))

    @property
    def canary(self) -> int:
        """How many members are updated first, and bake before the others; 0: none."""
        declared = self.group.properties.updating.canary
        if isinstance(declared, msgspec.UnsetType):
            return 0
        canary = amount(declared, self.size) or int(isinstance(declared, str) and amount(declared, 100) > 0)
        return min(canary, self.size)

    @property
    def progress_deadline_s(self) -> float:
        """How long a rolling update may make no progress until it has failed."""
        declared = self.group.properties.updating.progress_deadline
        return math.inf if isinstance(declared, msgspec.UnsetType) else seconds(declared)

    def sequence(self, slot: Slot) -> int:
        """Return the ordinal of a slot, from 1: for cattle the slot, for pets its position in LogicalIDs; 0 if none."""
        if not self.group.is_pets:
            return int(slot) if slot.isdecimal() else 1  # of a pet, from before the group became cattle
        return self.logical_ids.index(LogicalID(slot)) + 1 if LogicalID(slot) in self.logical_ids else 0
