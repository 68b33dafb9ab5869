"""A halt reaches replicas whose watch is at a member of etcd that has stopped without closing its connections."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from infrakit.clients.etcd import Etcd
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.store import Declaration
from infrakit.spi.clock import SystemClock
from infrakit.spi.leadership import Observation
from infrakit.spi.manager import Halt
from infrakit.stores.etcd import EtcdStore
from tests.integration.etcd.members import needs_etcd, running
from tests.stage import Stage, cattle

pytestmark = needs_etcd

HALT = Halt(group=None, who="bob", when="2026-11-29T12:00:00Z", why="the wrong rack")
OBSERVED_S = 8.0  # how long nothing may begin
SHOWN_S = 15.0  # how long it may take until the halt is shown


class Follows:
    """A leadership source according to which another node leads."""

    async def observe(self) -> AsyncIterator[Observation]:
        yield Observation(leader=False, begun_at=asyncio.get_running_loop().time(), valid_s=60.0)
        await asyncio.Event().wait()


async def test_a_follower_shows_a_halt_although_its_watch_has_died(tmp_path: Path) -> None:
    async with running(3, tmp_path) as cluster:
        leading = await cluster.leader()
        watched = next(member for member in cluster.members if member is not leading)
        others = [member.client_url for member in cluster.members if member is not watched]
        store = EtcdStore(Etcd([watched.client_url, *others], deadline_s=3.0))
        elsewhere = EtcdStore(Etcd(others))
        declaration = Declaration(elsewhere, SystemClock())
        async with Stage(store=store, leadership=Follows()) as stage:
            await declaration.change(changes.halt(None, HALT), what="halt", who="bob", why="a test")
            await stage.until(lambda: stage.replica.declaration.record.halt == HALT, within_s=SHOWN_S)
            watched.pause()
            try:
                await declaration.change(changes.halt(None, None), what="unhalt", who="bob", why="a test")
                await stage.until(lambda: stage.replica.declaration.record.halt is None, within_s=SHOWN_S)
                await declaration.change(changes.halt(None, HALT), what="halt", who="bob", why="a test")
                await stage.until(lambda: stage.replica.declaration.record.halt == HALT, within_s=SHOWN_S)
            finally:
                watched.resume()
        await store.close()
        await elsewhere.close()


async def test_a_halt_binds_a_leader_whose_watch_has_died(tmp_path: Path) -> None:
    async with running(3, tmp_path) as cluster:
        leading = await cluster.leader()
        watched = next(member for member in cluster.members if member is not leading)
        others = [member.client_url for member in cluster.members if member is not watched]
        store = EtcdStore(Etcd([watched.client_url, *others], deadline_s=3.0))
        elsewhere = EtcdStore(Etcd(others))
        async with Stage(store=store, poll_s=0.2) as stage:
            await stage.commit(cattle("web", 2))
            await stage.converged(within_s=30.0)
            watched.pause()
            try:
                declaration = Declaration(elsewhere, stage.clock)
                await declaration.load()
                await declaration.change(changes.halt(None, HALT), what="halt", who="bob", why="a test")
                stage.kill("web", "1")
                await stage.until(lambda: stage.replica.declaration.record.halt == HALT, within_s=SHOWN_S)
                await asyncio.sleep(OBSERVED_S)
                assert stage.simulator.calls["provision"] == 2
                assert len(stage.alive("web")) == 1
                await declaration.change(changes.halt(None, None), what="unhalt", who="bob", why="a test")
                await stage.until(lambda: len(stage.alive("web")) == 2, within_s=30.0)
            finally:
                watched.resume()
        await store.close()
        await elsewhere.close()
