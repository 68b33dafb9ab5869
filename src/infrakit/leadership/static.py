"""The leadership source of a single replica: it always leads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import SplitResult

from infrakit.spi.leadership import Observation

VALID_S = 3600.0


class Static:
    """Leads from the first observation on."""

    form = "static:"

    @staticmethod
    def accepts(_url: SplitResult) -> bool:
        return True

    @classmethod
    def from_url(cls, _url: SplitResult, *, name: str) -> Self:  # noqa: ARG003 - it leads under any name
        return cls()

    async def observe(self) -> AsyncIterator[Observation]:
        """Yield a new observation long before the last one expires."""
        while True:
            begun_at = asyncio.get_running_loop().time()
            yield Observation(leader=True, begun_at=begun_at, valid_s=VALID_S, note="it is the only replica")
            await asyncio.sleep(VALID_S / 2)
