"""`infrakit bootstrap` and `infrakit init`: open the plugins, and the store or a connection to the replicas."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from infrakit.lifecycle.access import DeclarationAccess, DirectStore, ViaReplica
from infrakit.lifecycle.first_machine import BootstrapRequest, PreparedMachine, bootstrap, prepare
from infrakit.lifecycle.replicas import Replicas, self_hosted
from infrakit.manager.declaration import validate
from infrakit.manager.lead.last_read import LAST_READ, LastReadFile
from infrakit.runtime import sources
from infrakit.runtime.lock import StateLock
from infrakit.runtime.registry import Registry
from infrakit.spi.clock import SystemClock
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.event import timestamp


async def run(request: BootstrapRequest, *, store: str, home: Path, report: Callable[[str], object]) -> int:
    """Bootstrap a cluster. `store` is a URL; if empty, the replicas on the declared machines are contacted instead.

    See `lifecycle.first_machine`. Raises `InvalidSpec` if there is neither a store nor a group that hosts replicas.
    """
    clock = SystemClock()
    registry = Registry(home, clock=clock)
    try:
        async with _access(request, store, home, registry) as access:
            with StateLock(home, started=timestamp(clock.now())):
                last = LastReadFile(home / LAST_READ, clock).before
                return await bootstrap(request, plugins=registry, access=access, clock=clock, report=report, last=last)
    finally:
        await registry.close()


@contextlib.asynccontextmanager
async def _access(
    request: BootstrapRequest, store: str, home: Path, registry: Registry
) -> AsyncIterator[DeclarationAccess]:
    if store:
        opened = sources.store(store, home)
        try:
            yield DirectStore(opened, SystemClock())
        finally:
            await opened.close()
        return
    hosts = await self_hosted(await validate.checked(request.text, request.source, registry), registry)
    if hosts is None:
        what = "no group hosts InfraKit replicas, so the location of the declaration is unknown"
        hint = "name the store: --store URL, or INFRAKIT_STORE"
        raise InvalidSpec([Problem(path="", message=what, hint=hint)], where=request.source)
    async with Replicas(hosts.places) as replicas:
        yield ViaReplica(replicas)


async def prepared(request: BootstrapRequest, *, home: Path) -> PreparedMachine:
    """The first machine as `bootstrap` would create it. See `lifecycle.first_machine`."""
    registry = Registry(home)
    try:
        return await prepare(request, plugins=registry, clock=SystemClock())
    finally:
        await registry.close()
