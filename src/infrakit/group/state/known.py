"""Members that the previous leader knew, until this leader has listed them, or their termination is confirmed."""

import math
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from infrakit.gate.census import KnownMember
from infrakit.group.state.member import Member
from infrakit.spi import values
from infrakit.spi.values import Description, GroupID, InstanceID, Slot, State


class Known(msgspec.Struct, kw_only=True):
    """The contents of a census. Attributes are read freely; they change through the methods only."""

    members: tuple[KnownMember, ...] = ()  # until the first listing: then those that it omits are missing members
    slots: dict[Slot, float] = msgspec.field(default_factory=dict)  # of cattle: when the first listing omitted it
    vanished: list[Slot] = msgspec.field(default_factory=list)  # omitted for longer than the lag, and not reported yet

    def recall(self, members: Iterable[KnownMember], slots: Iterable[Slot]) -> None:
        """Adopt the census."""
        self.members, self.slots = tuple(members), dict.fromkeys(slots, math.inf)

    @property
    def is_settled(self) -> bool:
        return not self.members and not self.slots

    def compare(
        self, members: Mapping[InstanceID, Member], *, group: GroupID, version: str, begun_at: float, proof_s: float
    ) -> Iterator[Description]:
        """Compare a complete listing, started at loop time `begun_at`, with what was known.

        A lost tag does not make a member out of date that was of this `version`.
        Yields what is known of the members that the first listing omits. `proof_s`: a slot that two listings, that far
        apart, omit is vanished.
        """
        for known in self.members:
            member = members.get(known.id)
            if member is None:
                yield _description(known, group)
            elif None in (member.token, known.token) or member.token == known.token:
                member.known(proven=known.proven, version=version if known.hash == version else "")
        self.members = ()
        by_slot = {member.slot: member for member in members.values()} if self.slots else {}
        for slot, omitted_at in list(self.slots.items()):
            member = by_slot.get(slot)
            if member is not None:
                member.known()
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
