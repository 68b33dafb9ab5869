"""The observer of a replica that is alone: it leads, always."""

import asyncio
from collections.abc import AsyncIterator

from infrakit.spi.leadership import Observation

VALID_S = 3600.0


class Static:
    """Leads from the first observation on."""

    async def observe(self) -> AsyncIterator[Observation]:
        """Renews long before an observation expires."""
        while True:
            begun_at = asyncio.get_running_loop().time()
            yield Observation(leader=True, begun_at=begun_at, valid_s=VALID_S, note="it is the only replica")
            await asyncio.sleep(VALID_S / 2)
