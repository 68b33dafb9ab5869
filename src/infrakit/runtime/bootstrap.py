"""`infrakit bootstrap` and `infrakit init`: the plugins and the store that they need, in this process."""

from collections.abc import Callable
from pathlib import Path

from infrakit.manager.bootstrap import Plan, Prepared, bootstrap, prepare
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


async def prepared(plan: Plan, *, home: Path) -> Prepared:
    """The first machine as it would be made. See `manager.bootstrap`."""
    registry = Registry(home)
    try:
        return await prepare(plan, plugins=registry, clock=SystemClock())
    finally:
        await registry.close()
