"""What whoever changes the declaration should know besides: an end that is revoked, a halt that is in the way.

Both are found in the records before and after a change, so that every order says it, whichever it is.
"""

from collections.abc import Iterator

from infrakit.group.orders import Orders
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.spi.manager import Halt
from infrakit.spi.values import GroupID


def warnings(before: DeclarationRecord, after: DeclarationRecord) -> tuple[str, ...]:
    """One sentence each, for a change that was made."""
    names = sorted(after.groups)
    changed = [name for name in names if _of(before, name) != _of(after, name)]
    return (*_revoked(before, after, names), *_held_back(before, after, changed))


def _of(record: DeclarationRecord, name: GroupID) -> tuple[object, ...]:
    return record.groups.get(name), record.orders.get(name), record.halt


def _revoked(before: DeclarationRecord, after: DeclarationRecord, names: list[GroupID]) -> Iterator[str]:
    for name in names:
        end = before.orders.get(name, Orders()).destroying
        if end is not None and after.orders.get(name, Orders()).destroying is None:
            yield f"{name} was to be destroyed, as {end.who} said at {end.when} ({end.why}): that is revoked"


def _held_back(before: DeclarationRecord, after: DeclarationRecord, changed: list[GroupID]) -> Iterator[str]:
    """Halts that were there before: the one that is being ordered needs no remark."""
    if after.halt is not None:
        if changed and after.halt == before.halt:
            yield _halted("everything is", after.halt, "infrakit unhalt")
        return
    for name in changed:
        halt = after.orders.get(name, Orders()).halt
        if halt is not None and halt == before.orders.get(name, Orders()).halt:
            yield _halted(f"{name} is", halt, f"infrakit unhalt {name}")


def _halted(what: str, halt: Halt, command: str) -> str:
    return f"{what} halted by {halt.who} ({halt.why}): nothing happens there until the halt is lifted ({command})"
