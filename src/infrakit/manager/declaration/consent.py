"""Consent: a commit that destroys many members without replacing them must state how many.

What a commit destroys follows from the old and the new declaration alone, so it is computed inside the compare-and-swap
and no outdated observation can hide it. A new version of a group replaces its members and needs no consent. A logical
ID that is not declared any more is not replaced, even if another one is declared instead.
"""

import shlex
from collections.abc import Callable, Mapping
from typing import NamedTuple

from infrakit.manager.declaration.record import DeclarationRecord, RecordChange
from infrakit.spi import errors
from infrakit.spi.group import Group
from infrakit.spi.quorum import majority
from infrakit.spi.values import GroupID

ALLOWED = 2  # of one group, without consent
ALLOWED_PERCENT = 30

IsQuorum = Callable[[Group], bool]


class Loss(NamedTuple):
    """How many members of one group a change destroys without replacing them."""

    group: GroupID
    destroyed: int
    size: int  # before the change
    allowed: int  # without consent
    quorum: bool

    def __str__(self) -> str:
        kind = "quorum" if self.quorum else "group"
        members = f"{self.destroyed} of {self.size} members of the {kind} {self.group}"
        return f"{members} (without consent at most {self.allowed})"


def losses(before: Mapping[GroupID, Group], after: Mapping[GroupID, Group], is_quorum: IsQuorum) -> tuple[Loss, ...]:
    """Return what the change from one declaration to another destroys without replacing it, by group.

    A group that is not declared any more is not among them: its instances keep running.
    """
    found = []
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if count := removed(old, new):
            quorum = is_quorum(old) or is_quorum(new)
            found.append(Loss(name, count, _size(old), _allowed(_size(old), quorum=quorum), quorum))
    return tuple(found)


def removed(old: Group, new: Group) -> int:
    """Return how many members of a group have no place in its new declaration."""
    ids, ids_after = old.properties.allocation.logical_ids, new.properties.allocation.logical_ids
    if ids_after is None:  # pets that become cattle remain, up to the size
        return max(0, _size(old) - _size(new))
    return _size(old) if ids is None else len(set(ids) - set(ids_after))  # cattle have no logical ID


def needed(found: tuple[Loss, ...]) -> int:
    """Return the number that the operator must consent to: 0, or all members that the change destroys."""
    return sum(loss.destroyed for loss in found) if any(loss.destroyed > loss.allowed for loss in found) else 0


def with_consent(change: RecordChange, destroys: int, *, is_quorum: IsQuorum, command: str) -> RecordChange:
    """Return the change, which raises `Refused` if it destroys more than `destroys` members and needs consent."""

    def checked(record: DeclarationRecord) -> DeclarationRecord:
        after = change(record)
        found = losses(record.groups, after.groups, is_quorum)
        number = needed(found)
        if number > destroys:
            given = f"; --destroys {destroys} is not enough" if destroys else ""
            raise errors.Refused(f"{sentence(found)}{given}", remedy=remedy(command, number))
        return after

    return checked


def sentence(found: tuple[Loss, ...]) -> str:
    """Describe what needs consent."""
    return f"it would destroy, without replacing them, {' and '.join(str(loss) for loss in found)}"


def remedy(command: str, number: int) -> str:
    return f"if that is intended: {command} --destroys {number}"


def command(verb: str, subject: str, why: str = "") -> str:
    """Return a command line for a shell; `why` is the message, empty if it is the default one."""
    words = ["infrakit", verb, "-" if subject == "stdin" else subject, *(["-m", why] if why else [])]
    return shlex.join(words)


def _size(group: Group) -> int:
    allocation = group.properties.allocation
    return len(allocation.logical_ids) if allocation.logical_ids is not None else allocation.size or 0


def _allowed(size: int, *, quorum: bool) -> int:
    allowed = max(ALLOWED, size * ALLOWED_PERCENT // 100)
    return min(allowed, majority(size) - 1) if quorum else allowed
