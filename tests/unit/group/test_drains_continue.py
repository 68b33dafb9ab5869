"""A drain continues through commands that do not concern it, and is cancelled by those that do."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from infrakit.simulation.parts import FlavorFaults
from infrakit.spi.event import Kind
from infrakit.spi.values import GroupID
from tests.stage import Stage, cattle, in_virtual_time

WEB = GroupID("web")
DRAIN_S = 60.0
Command = Callable[[Stage], Awaitable[object]]


def draining(stage: Stage) -> list[str]:
    return [str(m.id) for m in stage.controller("web").view.members.values() if m.leaving == "draining"]


async def _evict_another(stage: Stage) -> None:
    other = next(m.id for m in stage.alive("web").values() if m.id not in draining(stage))
    await stage.operator.destroy_instance(instance=other, who="ann", why="test")


async def _scaling_in(stage: Stage) -> None:
    await stage.commit(cattle("web", 10, updating={"DrainTimeout": f"{DRAIN_S:g}s"}))
    await stage.converged()
    await stage.scale("web", 9)
    await stage.until(lambda: draining(stage))


@pytest.mark.parametrize(
    "command",
    [
        _evict_another,
        lambda stage: stage.operator.pause(group=WEB, who="ann", why="test"),
        lambda stage: stage.operator.resume(group=WEB, who="ann", why="test"),
        lambda stage: stage.commit(cattle("other", 1)),
    ],
    ids=["evict another", "pause", "resume", "another group"],
)
def test_a_drain_continues_through_a_command_that_does_not_concern_it(command: Command) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
            await _scaling_in(stage)
            began, (victim,) = asyncio.get_running_loop().time(), draining(stage)
            await asyncio.sleep(DRAIN_S / 2)
            await command(stage)
            await stage.until(lambda: victim not in [m.id for m in stage.alive("web").values()])
            assert asyncio.get_running_loop().time() - began <= DRAIN_S + 2.0

    scenario()


@pytest.mark.parametrize(
    "command",
    [
        lambda stage: stage.operator.halt(group=WEB, who="ann", why="test"),
        lambda stage: stage.scale("web", 10),
    ],
    ids=["halt", "scale"],
)
def test_a_drain_is_cancelled_by_a_command_that_concerns_it(command: Command) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
            await _scaling_in(stage)
            await command(stage)
            await stage.until(lambda: not draining(stage), within_s=2.0)
            await asyncio.sleep(2 * DRAIN_S)
            assert "destroy" not in stage.simulator.calls

    scenario()


@in_virtual_time
async def test_pausing_a_rolling_update_cancels_its_drain() -> None:
    async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        await stage.commit(cattle("web", 3, version=1, updating={"DrainTimeout": "60s"}))
        await stage.until(lambda: draining(stage))
        await stage.operator.pause(group=WEB, who="ann", why="test")
        await asyncio.sleep(200)
        assert stage.versions("web") == {0}
        assert not stage.messages(Kind.DESTROYING)


@in_virtual_time
async def test_a_terminated_instance_that_an_operator_named_restarts_no_drain() -> None:
    """InfraKit removes the command by a commit of its own."""
    async with Stage(flavor=FlavorFaults(drain_hang_rate=1.0)) as stage:
        await _scaling_in(stage)
        (victim,) = draining(stage)
        began = asyncio.get_running_loop().time()
        await _evict_another(stage)
        await stage.until(lambda: victim not in [m.id for m in stage.alive("web").values()])
        assert asyncio.get_running_loop().time() - began <= DRAIN_S + 2.0
        await stage.converged()
