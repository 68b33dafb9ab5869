"""A single production replica in virtual time, with simulated plugins: no other replica, no network, no real provider.

async with SingleReplica(plugins=plugins, random=rng) as replica:
    await replica.replica.active.wait()
    await replica.operator.commit(...)
"""

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Self

from infrakit.events.journal import Journal
from infrakit.group.state.member import Member
from infrakit.leadership.static import Static
from infrakit.manager.api.manager import Operator
from infrakit.manager.declaration.validate import Plugins
from infrakit.manager.lead.last_read import LastReadFile
from infrakit.manager.lead.replica import Replica
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.simulation import loop
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event
from infrakit.spi.leadership import Leadership
from infrakit.spi.store import Store
from infrakit.stores.memory import MemoryStore


class SingleReplica:
    """An async context manager, to be entered in a virtual loop; on exit, the replica is stopped."""

    def __init__(
        self,
        *,
        plugins: Plugins,
        random: random.Random,
        name: str = "simulated",
        store: Store | None = None,
        leadership: Leadership | None = None,
        clock: Clock | None = None,
        poll_s: float = 1.0,
        is_self: Callable[[Member], bool] = lambda _member: False,
        watermark: WatermarkGuard | None = None,
        last_read: LastReadFile | None = None,
    ) -> None:
        self.store = store or MemoryStore()
        self.clock = clock or loop.VirtualClock()
        self.journal = Journal(None, clock=self.clock)
        self.events: list[Event] = []
        self.stopped = asyncio.Event()
        self.replica = Replica(
            name=name,
            store=self.store,
            leadership=leadership or Static(),
            plugins=plugins,
            clock=self.clock,
            random=random,
            emit=self.on_event,
            poll_s=poll_s,
            is_self=is_self,
            watermark=watermark,
            last_read=last_read,
        )
        self.operator = Operator(self.replica, history=self.journal, stop=self.stopped.set)
        self._running: asyncio.Task[None] | None = None

    def on_event(self, event: Event) -> None:
        """Record an event of the replica."""
        self.events.append(self.journal.emit(event))

    async def __aenter__(self) -> Self:
        self._running = asyncio.get_running_loop().create_task(self.replica.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop the replica, as a signal would."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
