"""The declaration, as the oracle reads it: the durable document as plain JSON, and limits that it computes itself."""

import json
from typing import Any

import msgspec

from infrakit.spi.store import Document
from infrakit.spi.values import GroupID, InstanceID

NAME = "declaration"
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class DeclaredGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One declared group, with the commands of operators that are in effect for it."""

    size: int
    ids: tuple[str, ...] | None  # None: cattle
    surge: int
    quorum: bool
    volumes: dict[str, str]  # by logical ID
    max_unhealthy: int
    boot_grace_s: float
    unhealthy_after_s: float
    version: int  # as the simulated operator numbers it
    policy: int  # the same, of what may concern no member
    hash: str  # the name of that version in tags
    halted: bool = False
    destroying: bool = False
    deletes_volumes: bool = False
    evicted: frozenset[InstanceID] = frozenset()
    despite_unhealthy: frozenset[InstanceID] = frozenset()
    resumed: str = ""

    @property
    def majority(self) -> int:
        return self.size // 2 + 1

    @property
    def can_lose(self) -> int:
        """How many members a quorum can lose; of one or two members, one is replaced nevertheless."""
        return max(1, self.size - self.majority)


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """One durable version of the declaration."""

    revision: int = 0
    what: str = ""
    who: str = ""
    why: str = ""
    groups: dict[GroupID, DeclaredGroup] = {}
    halted: bool = False  # everything


def read(document: Document) -> Declared:
    """Read a durable document."""
    body: dict[str, Any] = json.loads(document.body)
    entry, orders = body.get("Entry") or {}, body.get("Orders") or {}
    halted = body.get("Halt") is not None
    groups = {
        GroupID(name): _group(group, orders.get(name) or {}, halted=halted)
        for name, group in (body.get("Groups") or {}).items()
    }
    return Declared(
        revision=document.revision,
        what=entry.get("What", ""),
        who=entry.get("Who", ""),
        why=entry.get("Why", ""),
        groups=groups,
        halted=halted,
    )


def _group(group: dict[str, Any], orders: dict[str, Any], *, halted: bool) -> DeclaredGroup:
    properties = group["properties"]
    allocation, healing = properties["Allocation"], properties.get("Healing") or {}
    flavor = properties["Flavor"].get("Properties") or {}
    ids = allocation.get("LogicalIDs")
    named = flavor.get("Named") or {}
    size = len(ids) if ids is not None else allocation.get("Size") or 0
    quorum = bool(flavor.get("Quorum"))
    surge = 0 if ids is not None else amount((properties.get("Updating") or {}).get("MaxSurge") or 0, size)
    return DeclaredGroup(
        size=size,
        ids=tuple(ids) if ids is not None else None,
        surge=surge,
        quorum=quorum,
        volumes={i: named.get(i, f"vol-{i}") for i in ids or ()} if flavor.get("Volumes") else {},
        max_unhealthy=_max_unhealthy(healing.get("MaxUnhealthy"), size, quorum=quorum),
        boot_grace_s=duration(healing.get("BootGrace") or "60s"),
        unhealthy_after_s=duration(healing.get("UnhealthyAfter") or "30s"),
        version=(properties["Instance"].get("Properties") or {}).get("version", 0),
        policy=flavor.get("Policy", 0),
        hash=group.get("hash", ""),
        halted=halted or orders.get("Halt") is not None,
        destroying=orders.get("Destroying") is not None,
        deletes_volumes=bool(orders.get("Volumes")),
        evicted=frozenset(InstanceID(i) for i in orders.get("Evictions") or {}),
        despite_unhealthy=frozenset(InstanceID(i) for i in orders.get("DespiteUnhealthy") or ()),
        resumed=orders.get("Resumed", ""),
    )


def _max_unhealthy(declared: int | str | None, size: int, *, quorum: bool) -> int:
    """As documented: 40 % and at least 1 by default; of a quorum never more than what leaves a majority."""
    spare = max(1, (size - 1) // 2)
    if declared is None:
        return spare if quorum else max(1, size * 2 // 5)
    limit = max(1, amount(declared, size)) if isinstance(declared, str) else declared
    return min(limit, spare) if quorum else limit


def amount(value: int | str, total: int) -> int:
    """Resolve a count, or a percentage of `total`."""
    return int(value[:-1]) * total // 100 if isinstance(value, str) else value


def duration(text: str) -> float:
    """`90s` -> 90.0; the worlds use one unit at a time."""
    number = text.rstrip("hms")
    return float(number) * UNIT_S[text[len(number) :]] if text != "0" else 0.0
