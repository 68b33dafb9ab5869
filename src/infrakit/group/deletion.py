"""Deletes the volumes of a destroyed group: one in each cycle, so that each one follows a listing of its own.

A deletion may take minutes. A cycle that deleted them all would be taken for a controller that hangs, and another
instance may hold the next volume by then.
"""

import asyncio
from collections.abc import Callable, Sequence

from infrakit.gate.authority import Outdated
from infrakit.gate.gate import Gate
from infrakit.group.account import Account
from infrakit.group.plan import DesiredState, foreign
from infrakit.spi.event import Kind
from infrakit.spi.flavor import Attaches, Flavor
from infrakit.spi.values import Description, Slot

ATTACHMENTS_DEADLINE_S = 20.0


class VolumesDeletion:
    """The deletion of the volumes of one group. `report` emits an event for the group."""

    def __init__(
        self,
        *,
        account: Account,
        flavor: Flavor,
        gate: Gate,
        want: Callable[[], DesiredState],
        report: Callable[[Kind, str], object],
    ) -> None:
        self._account = account
        self._flavor = flavor
        self._gate = gate
        self._want = want
        self._report = report
        self._done: set[tuple[str, str]] = set()  # types and IDs

    def forget(self) -> None:
        """Forget which were deleted: a group that is declared again may have created them again."""
        self._done.clear()

    async def delete_next(self, want: DesiredState, others: Sequence[Description]) -> bool:
        """Delete one volume of a group that is being destroyed. False: none is left.

        `others` are live instances that may hold some. Raises `NotBegun` if the deletion is stopped.
        """
        if self._account.volumes is None or not isinstance(self._flavor, Attaches):
            return False

        def begin() -> None:
            if self._want() is not want:
                raise Outdated("the declaration of the group has changed")

        async with asyncio.timeout(ATTACHMENTS_DEADLINE_S):
            declared = await self._flavor.attachments(
                properties=want.group.properties.flavor.properties,
                allocation=want.group.properties.allocation.to_wire(),
            )
        held = foreign.holders(others)
        for logical_id, attachments in declared.items():
            for attachment in attachments:
                key = (attachment.type, attachment.id)
                if key in self._done:
                    continue
                if (holder := held.get(Slot(logical_id))) is not None:
                    whose = f"{holder.id or 'an instance'} of the {foreign.owner(holder, want.group.name)} may hold it"
                    self._report(
                        Kind.REFUSED, f"{attachment.type} {attachment.id} of {logical_id} is not deleted: {whose}"
                    )
                    self._done.add(key)
                    continue
                await self._gate.delete_attachment(self._account.volumes, attachment=attachment, begin=begin)
                self._done.add(key)
                self._report(
                    Kind.DELETED, f"{attachment.type} {attachment.id} of {logical_id} was deleted, as requested"
                )
                return True
        return False
