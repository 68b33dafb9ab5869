"""The declaration as it is stored: one document with one revision per change, each with who, when and why.

Changes are pure functions from record to record, so that every command of an operator is one compare-and-swap: it is
applied as a whole or not at all. The revision of the document is the version that operators see.
"""

import hashlib
from collections.abc import Callable

import msgspec

from infrakit.group.orders import Orders
from infrakit.spi import errors, formats, names
from infrakit.spi.group import Group
from infrakit.spi.manager import Halt
from infrakit.spi.values import GroupID, Wire

NAME = "declaration"  # name of the document in the store
PROVEN = "proven"  # what InfraKit itself has changed, when it recorded a proven version
DESTROYED = "destroyed"  # the same, when it removed a group, or commands to destroy instances, that are completed
KEEP = 1000  # revisions in the store; a store may have a lower limit


class ChangeEntry(Wire, frozen=True, kw_only=True, gc=False):
    """Who changed what, when (ISO 8601) and why."""

    what: str
    who: str
    when: str
    why: str


class DeclarationRecord(Wire, frozen=True, kw_only=True):
    """Everything that operators have declared and commanded."""

    format: int = formats.FORMAT
    entry: ChangeEntry = ChangeEntry(what="", who="", when="", why="")
    groups: dict[GroupID, Group] = msgspec.field(default_factory=dict)
    previous: dict[GroupID, Group] = msgspec.field(default_factory=dict)  # the version before, of each group
    proven: dict[GroupID, Group] = msgspec.field(default_factory=dict)  # the last version with all members healthy
    orders: dict[GroupID, Orders] = msgspec.field(default_factory=dict)
    halt: Halt | None = None  # of every group
    accounts: dict[str, str] = msgspec.field(default_factory=dict)  # accepted identities, by instance plugin
    adopted: tuple[str, ...] = ()  # other clusters, as tokens name them, whose instances belong to this one

    def orders_of(self, group: GroupID) -> Orders:
        """Return the commands in effect for one group, including a halt of everything."""
        orders = self.orders.get(group, Orders())
        return msgspec.structs.replace(orders, halt=self.halt) if self.halt is not None else orders

    def group(self, name: GroupID) -> Group:
        """The declared group of that name. Raises `NotFound`, which lists the declared groups."""
        if name not in self.groups:
            raise errors.NotFound(
                f"there is no group {name!r}", remedy=names.remedy(name, self.groups, listed="declared groups")
            )
        return self.groups[name]


RecordChange = Callable[[DeclarationRecord], DeclarationRecord]


def decode(body: bytes) -> DeclarationRecord:
    """Decode a stored record. Raises `Refused`, see `formats`."""
    return formats.decode(body, DeclarationRecord, "declaration")


def encode(record: DeclarationRecord) -> bytes:
    return msgspec.json.encode(record)


def digest(record: DeclarationRecord) -> str:
    """SHA-256 over the declared groups, independent of their order."""
    groups = sorted(record.groups.values(), key=lambda g: g.name)
    return hashlib.sha256(msgspec.json.encode(groups, order="deterministic")).hexdigest()


def with_orders(record: DeclarationRecord, group: GroupID, **changes: object) -> DeclarationRecord:
    """Return the record with some of a group's commands replaced."""
    record.group(group)
    orders = msgspec.structs.replace(record.orders.get(group, Orders()), **changes)
    kept = {name: o for name, o in (record.orders | {group: orders}).items() if o != Orders()}
    return msgspec.structs.replace(record, orders=kept)


def with_group(record: DeclarationRecord, group: Group, *, revoke: bool = True) -> DeclarationRecord:
    """Return the record with a group declared or redeclared; the previous version is stored beside it.

    It revokes what operators requested for the group before: its destruction, and to replace instances although more
    than MaxUnhealthy are unhealthy. `revoke` is false if no operator declares it.
    """
    old, proven = record.groups.get(group.name), record.proven.get(group.name)
    if proven is not None and proven.hash == group.hash:  # the proven version, with another allocation
        record = msgspec.structs.replace(record, proven=record.proven | {group.name: group})
    previous, orders = record.previous, record.orders.get(group.name, Orders())
    if old is not None and old.hash != group.hash:
        previous = previous | {group.name: old}
    if revoke:
        orders = msgspec.structs.replace(orders, destroying=None, volumes=False, despite_unhealthy=(), incarnations={})
    if old is not None and old.hash != group.hash:
        orders = msgspec.structs.replace(orders, roll=None, restored="")
    record = msgspec.structs.replace(record, groups=record.groups | {group.name: group}, previous=previous)
    return with_orders(record, group.name, **msgspec.structs.asdict(orders))


def without_group(record: DeclarationRecord, group: GroupID) -> DeclarationRecord:
    """Return the record without a group and its commands."""
    record.group(group)

    def rest(mapping: dict[GroupID, object]) -> dict[GroupID, object]:
        return {name: value for name, value in mapping.items() if name != group}

    return msgspec.structs.replace(
        record,
        groups=rest(dict(record.groups)),
        previous=rest(dict(record.previous)),
        proven=rest(dict(record.proven)),
        orders=rest(dict(record.orders)),
    )
