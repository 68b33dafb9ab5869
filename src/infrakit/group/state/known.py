"""Members that the previous leader knew, until this leader has listed them, or their termination is confirmed."""

import math
from collections.abc import Collection, Container, Iterator, Mapping

import msgspec

from infrakit.gate.census import Census, KnownMember, unpack
from infrakit.group.state.member import Member
from infrakit.spi import values
from infrakit.spi.values import Description, GroupID, InstanceID, LogicalID, Slot, State


class Known(msgspec.Struct, kw_only=True):
    """The contents of a census. Attributes are read freely; they change through the methods only."""

    members: tuple[KnownMember, ...] = ()  # until the first listing: then those that it omits are missing members
    version: str = ""  # that was declared
    current: frozenset[Slot] = frozenset()  # those of the slots whose members were of that version
    slots: dict[Slot, float] = msgspec.field(default_factory=dict)  # of cattle: when the first listing omitted it
    vanished: list[Slot] = msgspec.field(default_factory=list)  # omitted for longer than the lag, and not reported yet

    def recall(self, census: Census) -> None:
        """Adopt the census. Raises `ValueError` if its slots cannot be unpacked."""
        self.members, self.slots = census.members, dict.fromkeys(unpack(census.slots), math.inf)
        self.version, self.current = census.version, frozenset(unpack(census.current))

    @property
    def is_settled(self) -> bool:
        return not self.members and not self.slots

    def current_now(self, version: str) -> frozenset[Slot]:
        """Return the slots whose members were of this version."""
        return self.current if version == self.version else frozenset()

    def compare(
        self,
        members: Mapping[InstanceID, Member],
        *,
        group: GroupID,
        declared: Collection[LogicalID] | None,
        version: str,
        creating: Container[Slot],
        begun_at: float,
        proof_s: float,
    ) -> Iterator[Description]:
        """Compare a complete listing, started at loop time `begun_at`, with what was known.

        A lost tag does not make a member out of date that was of this `version`. A member of a slot that the ledger
        shows as `creating` may be newer than the census.
        Yields what is known of the members that the first listing omits. `proof_s`: a slot that two listings, that far
        apart, omit is vanished.
        """
        for known in self.members:
            member = members.get(known.id)
            if member is None:
                yield _description(known, group)
            elif None in (member.token, known.token) or member.token == known.token:
                is_current = known.hash == version
                member.known(logical_id=known.logical_id, proven=known.proven, version=version if is_current else "")
                member.read_again(declared)
        self.members = ()
        current = self.current_now(version)
        by_slot = {member.slot: member for member in members.values()} if self.slots else {}
        for slot, omitted_at in list(self.slots.items()):
            member = by_slot.get(slot)
            if member is not None:
                is_current = slot in current and slot not in creating
                member.known(version=version if is_current else "")
                del self.slots[slot]
            elif omitted_at == math.inf:
                self.slots[slot] = begun_at
            elif begun_at - omitted_at >= proof_s:
                del self.slots[slot]
                self.vanished.append(slot)

    def pop_vanished(self) -> list[Slot]:
        """Return the slots that have vanished, once."""
        vanished, self.vanished = self.vanished, []
        return vanished


def _description(known: KnownMember, group: GroupID) -> Description:
    tags = {
        values.TAG_GROUP: group,
        values.TAG_HASH: known.hash,
        values.TAG_TOKEN: known.token,
        values.TAG_SLOT: known.slot,
        values.TAG_LOGICAL_ID: known.logical_id,
    }
    return Description(
        id=known.id,
        logical_id=known.logical_id,
        tags={key: value for key, value in tags.items() if value},
        state=State.UNSPECIFIED,
    )


def remembered(member: Member) -> KnownMember:
    """Return what the next leader has to know of a member."""
    tags = member.description.tags or {}
    return KnownMember(
        id=member.id,
        logical_id=member.logical_id,
        slot=Slot(tags[values.TAG_SLOT]) if values.TAG_SLOT in tags else None,
        token=member.token,
        hash=member.hash,
        proven=member.is_proven,
    )
