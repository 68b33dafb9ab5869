"""A new declaration binds all calls at once, although adopting it completely may take long."""

import asyncio
from typing import Any

import msgspec

from infrakit.manager.declaration import changes
from infrakit.manager.declaration.store import Declaration
from infrakit.simulation.parts import Plugins, SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.manager import Halt
from infrakit.spi.values import GroupID
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets

WEB, API, HUNG = GroupID("web"), GroupID("api"), GroupID("hung")
HANG_S = 1000.0


class UnreliablePlugins(Plugins):
    """Flavor plugins of which one does not answer, and one hangs."""

    absent = ""
    hanging = ""

    async def flavor(self, name: str) -> SimulatedFlavor:
        if name == self.absent:
            raise errors.Unreachable(f"{name} does not answer")
        if name == self.hanging:
            await asyncio.sleep(HANG_S)
        return await super().flavor(name)


def with_flavor(group: dict[str, Any], plugin: str) -> dict[str, Any]:
    group["properties"]["Flavor"]["Plugin"] = plugin
    return group


def with_plugins(stage: Stage) -> UnreliablePlugins:
    plugins = UnreliablePlugins(stage.simulator, stage.flavor)
    stage.replica.plugins = plugins
    return plugins


@in_virtual_time
async def test_a_halt_binds_a_group_whose_declared_flavor_does_not_answer() -> None:
    store = MemoryStore()
    async with Stage(store=store) as first:
        await first.commit(with_flavor(cattle("web", 3), "old"))
        await first.converged()
        await first.commit(with_flavor(cattle("web", 3, version=1), "new"))
        await first.converged()
    stage = Stage(store=store, simulator=first.simulator)
    with_plugins(stage).absent = "old"
    async with stage:
        await stage.replica.active.wait()
        await stage.converged()
        await stage.operator.rollback(group=WEB, who="ann", why="back to a flavor that is not running")
        await stage.operator.halt(group=None, who="ann", why="stop")
        before = stage.simulator.calls["provision"]
        stage.kill("web", "1")
        await asyncio.sleep(120)
        assert stage.simulator.calls["provision"] == before


@in_virtual_time
async def test_a_plugin_that_hangs_does_not_delay_the_healing_of_other_groups() -> None:
    stage = Stage()
    plugins = with_plugins(stage)
    async with stage:
        await stage.commit(pets("db", "a b c", quorum=True), cattle("api", 0))
        await stage.converged()
        plugins.hanging = "hangs"
        declaration = Declaration(stage.store, stage.clock)
        record = await declaration.load()
        properties = record.groups[API].properties
        flavor = msgspec.structs.replace(properties.flavor, plugin="hangs")
        hung = msgspec.structs.replace(
            record.groups[API], name=HUNG, properties=msgspec.structs.replace(properties, flavor=flavor)
        )
        await declaration.change(changes.declare((hung,)), what="commit", who="bob", why="a test")

        async def commit_each_second() -> None:
            while True:
                halt = Halt(group=API, who="bob", when="now", why=str(asyncio.get_running_loop().time()))
                await declaration.change(changes.halt(API, halt), what="halt", who="bob", why="a test")
                await asyncio.sleep(1.0)

        committing = asyncio.create_task(commit_each_second())
        await asyncio.sleep(5)
        stage.kill("db", "a")
        await stage.until(lambda: len(stage.alive("db")) == 3, within_s=10.0)
        committing.cancel()
