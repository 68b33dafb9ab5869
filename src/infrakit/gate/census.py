"""The census of a group: its known members, and what happened within an hour. It outlives the leader (laws 2 to 5).

One document for each group in the store, apart from the ledger, which each fencing check reads. A new leader compares
its first listings with it: a member that is known and not listed is missing, not absent, and no replacement is created
before its termination is confirmed. Ages are seconds before the document was written, so no wall clock counts.
"""

from collections.abc import Iterable, Iterator

from infrakit.spi import formats
from infrakit.spi.values import InstanceID, LogicalID, Slot, Token, Wire

SLOTS_MAX = 1_000_000  # in one range: more is damage


class KnownMember(Wire, frozen=True, kw_only=True, gc=False):
    """One settled member: a pet, or a member of cattle that has no slot or is missing."""

    id: InstanceID
    logical_id: LogicalID | None = None
    slot: Slot | None = None  # of cattle
    token: Token | None = None
    hash: str = ""
    proven: bool = False  # its start was proven: BootGrace is over


class History(Wire, frozen=True, kw_only=True):
    """What the guard has recorded. Slots are packed."""

    size: int = 0
    version: str = ""
    resumed: str = ""  # the last command to resume the group that has taken effect
    healthy: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    vanished_max: int = 0  # how many of them were permitted; 0: an earlier release has written it, or none has vanished
    vanished_ids: tuple[InstanceID, ...] = ()  # some of them
    created: tuple[tuple[int, int], ...] = ()  # age in seconds and number, the oldest first
    allowances: tuple[tuple[int, int], ...] = ()  # the same, of further creations that are permitted
    sizes: tuple[tuple[int, int], ...] = ()  # declared ones, with the seconds since they were declared last
    versions: tuple[tuple[str, int], ...] = ()  # those with an allowance, and its age in seconds


class Census(Wire, frozen=True, kw_only=True):
    """The stored document, stamped by the leader that wrote it."""

    format: int = formats.FORMAT
    cluster: str = ""  # as in the ledger: evidence of a store restored from a backup does not count
    epoch: int = 0
    provider: str = ""  # the instance plugin: its IDs and tags mean nothing to another one
    account: str = ""  # its identity, as far as the plugin names it: another account does not have these members
    members: tuple[KnownMember, ...] = ()
    slots: tuple[str, ...] = ()  # of cattle, packed
    version: str = ""  # the declared one
    current: tuple[str, ...] = ()  # those of the slots whose members are of that version
    # Being destroyed by an earlier leader, and for how many more seconds its call may take effect.
    ending: tuple[tuple[InstanceID, int], ...] = ()
    history: History = History()


def pack(slots: Iterable[Slot]) -> tuple[str, ...]:
    """Pack slots: the ordinals of cattle as ranges, `1-9998`, others by name, `=10.0.0.1`."""
    ordinals, names = [], []
    for slot in slots:
        if _is_ordinal(slot):
            ordinals.append(int(slot))
        else:
            names.append(f"={slot}")
    return (*_ranges(sorted(ordinals)), *sorted(names))


def unpack(packed: Iterable[str]) -> Iterator[Slot]:
    """Yield the slots. Raises `ValueError` for what `pack` does not return."""
    for each in packed:
        if each.startswith("="):
            yield Slot(each[1:])
            continue
        first, dash, last = each.partition("-")
        ordinals = range(int(first), int(last if dash else first) + 1)
        if len(ordinals) > SLOTS_MAX:
            raise ValueError(f"{each} are too many slots")
        yield from (Slot(str(number)) for number in ordinals)


def _is_ordinal(slot: Slot) -> bool:
    return slot.isascii() and slot.isdecimal() and (slot == "0" or slot[0] != "0")


def _ranges(ordinals: list[int]) -> Iterator[str]:
    first = last = None
    for number in ordinals:
        if last is not None and number <= last + 1:
            last = number
            continue
        if first is not None:
            yield str(first) if first == last else f"{first}-{last}"
        first = last = number
    if first is not None:
        yield str(first) if first == last else f"{first}-{last}"
