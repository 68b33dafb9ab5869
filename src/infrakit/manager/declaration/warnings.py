"""Warnings after a change of the declaration: it revoked what an operator requested, or a halt blocks its effect.

Both are found by comparing the records before and after the change, so that every command reports them.
"""

from collections.abc import Iterator

from infrakit.group.orders import Orders
from infrakit.manager.declaration.record import DESTROYED, DeclarationRecord
from infrakit.spi.group import Group
from infrakit.spi.manager import Halt
from infrakit.spi.values import GroupID


def warnings(before: DeclarationRecord, after: DeclarationRecord) -> tuple[str, ...]:
    """Return the warnings for a change, one sentence each."""
    names = sorted(after.groups)
    changed = [name for name in names if _of(before, name) != _of(after, name)]
    return (*_revoked(before, after), *_halted_changes(before, after, changed))


def _of(record: DeclarationRecord, name: GroupID) -> tuple[object, ...]:
    return record.groups.get(name), record.orders.get(name), record.halt


def _revoked(before: DeclarationRecord, after: DeclarationRecord) -> Iterator[str]:
    """Yield a warning for each revoked command; also if the group is freed before all its instances terminated."""
    if after.entry.what == DESTROYED:
        return
    for name in sorted(before.orders):
        old, new = before.orders[name], after.orders.get(name, Orders())
        destroy = old.destroying
        if destroy is not None and new.destroying is None:
            yield f"the destruction of {name}, requested by {destroy.who} at {destroy.when} ({destroy.why}), is revoked"
        if before.groups.get(name) != after.groups.get(name):  # otherwise the command to lift it was given
            yield from _lifted(before.groups[name], old, new)


def _lifted(group: Group, old: Orders, new: Orders) -> Iterator[str]:
    name, stop = group.name, old.roll
    if old.halt is not None and new.halt is None:
        yield f"the halt of {name}, by {old.halt.who} at {old.halt.when} ({old.halt.why}), is lifted"
    if stop is not None and stop.hash == group.hash and not stop.failed and new.roll is None:
        what = "abort" if stop.aborted else "pause"
        yield f"the {what} of the rolling update of {name}, by {stop.who} at {stop.when} ({stop.why}), is lifted"
    if old.despite_unhealthy and not new.despite_unhealthy:
        yield f"the permission to replace {', '.join(old.despite_unhealthy)} of {name} is revoked"


def _halted_changes(before: DeclarationRecord, after: DeclarationRecord, changed: list[GroupID]) -> Iterator[str]:
    """Yield a warning for each halt that was in effect before the change; a halt that it sets needs no warning."""
    if after.halt is not None:
        if changed and after.halt == before.halt:
            yield _halted("everything is", after.halt, "infrakit unhalt")
        return
    for name in changed:
        halt = after.orders.get(name, Orders()).halt
        if halt is not None and halt == before.orders.get(name, Orders()).halt:
            yield _halted(f"{name} is", halt, f"infrakit unhalt {name}")


def _halted(what: str, halt: Halt, command: str) -> str:
    return f"{what} halted by {halt.who} ({halt.why}): no action is taken until the halt is lifted ({command})"
