"""`infrakit bootstrap` and `infrakit init`: the plugins, and the store or the replicas that they ask."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from infrakit.lifecycle.access import ByReplicas, InStore, Kept
from infrakit.lifecycle.first_machine import Plan, Prepared, bootstrap, prepare
from infrakit.lifecycle.replicas import Replicas, hosting
from infrakit.manager.declaration import validate
from infrakit.runtime import sources
from infrakit.runtime.lock import StateLock
from infrakit.runtime.registry import Registry
from infrakit.spi.clock import SystemClock
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.event import timestamp


async def run(plan: Plan, *, store: str, home: Path, tell: Callable[[str], object]) -> int:
    """`store` is its URL; empty: the replicas on the declared machines are asked. See `lifecycle.first_machine`.

    Raises `InvalidSpec` if there is neither.
    """
    clock = SystemClock()
    registry = Registry(home, clock=clock)
    try:
        async with _kept(plan, store, home, registry) as kept:
            with StateLock(home, started=timestamp(clock.now())):
                return await bootstrap(plan, plugins=registry, kept=kept, clock=clock, tell=tell)
    finally:
        await registry.close()


@contextlib.asynccontextmanager
async def _kept(plan: Plan, store: str, home: Path, registry: Registry) -> AsyncIterator[Kept]:
    if store:
        opened = sources.store(store, home)
        try:
            yield InStore(opened, SystemClock())
        finally:
            await opened.close()
        return
    hosts = await hosting(await validate.checked(plan.text, plan.source, registry), registry)
    if hosts is None:
        what = "no group of it hosts replicas of InfraKit, so that nobody is known who keeps the declaration"
        hint = "say where its store will be: --store URL, or INFRAKIT_STORE"
        raise InvalidSpec([Problem(path="", message=what, hint=hint)], where=plan.source)
    async with Replicas(hosts.places) as replicas:
        yield ByReplicas(replicas)


async def prepared(plan: Plan, *, home: Path) -> Prepared:
    """The first machine as it would be made. See `lifecycle.first_machine`."""
    registry = Registry(home)
    try:
        return await prepare(plan, plugins=registry, clock=SystemClock())
    finally:
        await registry.close()
