"""A leader whose watch of the store has broken silently: what other replicas have stored binds it nevertheless."""

import asyncio
from collections.abc import AsyncIterator

from infrakit.instances.simulator.faults import Spread
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.record import RecordChange
from infrakit.manager.declaration.store import Declaration
from infrakit.manager.lead.fence import BOUND_S
from infrakit.spi.manager import Halt
from infrakit.spi.values import GroupID
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time

WEB = GroupID("web")
HALT = Halt(group=None, who="bob", when="2026-11-29T12:00:00Z", why="the wrong rack")


class SilentStore(MemoryStore):
    """A store that reports no change to watchers, as over a connection whose other end has lost power."""

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        yield (await self.read(name=name)).revision
        await asyncio.get_running_loop().create_future()


async def elsewhere(stage: Stage, change: RecordChange) -> None:
    """Make a change through another replica, and return when it is durable."""
    declaration = Declaration(stage.store, stage.clock)
    await declaration.load()
    await declaration.change(change, what="a change", who="bob", why="a test")


@in_virtual_time
async def test_no_call_begins_after_a_halt_that_another_replica_has_acknowledged() -> None:
    async with Stage(store=SilentStore()) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        await elsewhere(stage, changes.halt(None, HALT))
        await asyncio.sleep(BOUND_S * 1.1)
        for slot in ("1", "2"):
            stage.kill("web", slot)
        await asyncio.sleep(120)
        assert stage.simulator.calls["provision"] == 3
        assert "halted by bob" in " ".join(each.reason for each in (await stage.status("web")).waiting)
        await elsewhere(stage, changes.halt(None, None))
        await stage.converged()
        assert len(stage.alive("web")) == 3


@in_virtual_time
async def test_a_halt_binds_calls_that_were_planned_before_it() -> None:
    async with Stage(store=SilentStore()) as stage:
        stage.fault(provision=Spread(low=1.0, high=1.0))
        group = cattle("web", 20)
        group["properties"]["Instance"]["MaxInFlight"] = 1
        await stage.commit(group)
        await stage.until(lambda: stage.simulator.calls.get("provision", 0) >= 3)
        await elsewhere(stage, changes.halt(None, HALT))
        await asyncio.sleep(BOUND_S * 1.1)
        begun = stage.simulator.calls["provision"]
        await asyncio.sleep(120)
        assert stage.simulator.calls["provision"] == begun < 20


@in_virtual_time
async def test_a_halt_binds_destructions_that_were_planned_before_it() -> None:
    async with Stage(store=SilentStore()) as stage:
        group = cattle("web", 20, in_flight=1)
        await stage.commit(group)
        await stage.converged()
        stage.fault(destroy=Spread(low=5.0, high=5.0))
        await stage.operator.destroy(group=WEB, who="ann", why="retired")
        await stage.until(lambda: stage.simulator.calls.get("destroy", 0) >= 3)
        await elsewhere(stage, changes.halt(None, HALT))
        await asyncio.sleep(BOUND_S * 1.1)
        begun = stage.simulator.calls["destroy"]
        await asyncio.sleep(120)
        assert stage.simulator.calls["destroy"] == begun < 20


@in_virtual_time
async def test_a_change_of_another_replica_is_adopted_without_a_watch() -> None:
    async with Stage(store=SilentStore()) as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        await elsewhere(stage, changes.scale(WEB, 4))
        await stage.until(lambda: len(stage.alive("web")) == 4, within_s=10.0)
