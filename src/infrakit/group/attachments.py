"""Asks the flavor which attachments its pets hold, once for each declaration, beside the reconcile cycle.

The answer follows from the declaration, so a new leader asks again and needs no memory. While there is none, because
the flavor has failed or takes long, the attachments of members are not judged.
"""

import asyncio
from collections.abc import Mapping

from infrakit.group.probers import DEADLINE_S, WAIT_S
from infrakit.spi.flavor import Attaches, Flavor
from infrakit.spi.group import Group
from infrakit.spi.values import Attachment, LogicalID

Declared = Mapping[LogicalID, tuple[Attachment, ...]]


class AttachmentsProber:
    """Asks one flavor for the declared attachments of one group."""

    def __init__(self) -> None:
        self._answered: Group | None = None  # the declaration that the newest answer is for
        self._asked: Group | None = None
        self._poll: asyncio.Task[Declared | None] | None = None

    async def result(self, flavor: Flavor, group: Group) -> Declared | None:
        """Return the attachments that this declaration needs; None if that has not changed, or is not known yet."""
        if self._poll is None:
            if group is self._answered:
                return None
            self._asked = group
            self._poll = asyncio.get_running_loop().create_task(_attachments(flavor, group))
        await asyncio.wait({self._poll}, timeout=WAIT_S)
        if not self._poll.done():
            return None
        found, self._poll = self._poll.result(), None
        if found is None or self._asked is not group:
            return None  # the next cycle asks again
        self._answered = group
        return found

    async def close(self) -> None:
        """Cancel the request in progress."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait({self._poll})


async def _attachments(flavor: Flavor, group: Group) -> Declared | None:
    if not group.is_pets or not isinstance(flavor, Attaches):
        return {}
    properties, allocation = group.properties.flavor.properties, group.properties.allocation.to_wire()
    try:
        async with asyncio.timeout(DEADLINE_S):
            return dict(await flavor.attachments(properties=properties, allocation=allocation))
    except Exception:  # the next cycle asks again
        return None
