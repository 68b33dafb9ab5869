"""`infrakit bootstrap`: the plugins and the store that it needs, in this process."""

from collections.abc import Callable
from pathlib import Path

from infrakit.manager.bootstrap import Plan, bootstrap
from infrakit.runtime import sources
from infrakit.runtime.lock import StateLock
from infrakit.runtime.registry import Registry
from infrakit.spi.clock import SystemClock
from infrakit.spi.event import timestamp


async def run(plan: Plan, *, store: str, home: Path, tell: Callable[[str], object]) -> int:
    """`store` is its URL. See `manager.bootstrap`."""
    clock = SystemClock()
    with StateLock(home, started=timestamp(clock.now())):
        registry, kept = Registry(home, clock=clock), sources.store(store, home)
        try:
            return await bootstrap(plan, plugins=registry, store=kept, clock=clock, tell=tell)
        finally:
            await kept.close()
            await registry.close()
