"""`--despite-unhealthy` is for the failure that the operator has seen: it ends with that failure or the instance."""

import asyncio
import math

from infrakit.spi.event import Kind
from infrakit.spi.values import GroupID
from tests.stage import Stage, cattle, in_virtual_time

WEB = GroupID("web")


def named(stage: Stage) -> tuple[str, ...]:
    return stage.replica.declaration.record.orders_of(WEB).despite_unhealthy


async def _unhealthy(stage: Stage) -> None:
    """All members are unhealthy: more than MaxUnhealthy."""
    await stage.commit(cattle("web", 4))
    await stage.converged()
    for machine in stage.alive("web").values():
        stage.simulator.make_unhealthy(machine.id)
    await stage.until(lambda: len(stage.messages(Kind.UNHEALTHY)) == 4)


@in_virtual_time
async def test_the_override_ends_when_the_members_are_healthy_again() -> None:
    async with Stage() as stage:
        await _unhealthy(stage)
        before = {machine.id for machine in stage.alive("web").values()}
        await stage.operator.halt(group=WEB, who="ann", why="the network is repaired first")
        await stage.operator.resume(group=WEB, despite_unhealthy=True, who="ann", why="replace them")
        assert set(named(stage)) == before
        for machine in stage.alive("web").values():
            machine.unhealthy_at = math.inf
        await stage.until(lambda: not named(stage), within_s=20.0)
        await stage.operator.unhalt(group=WEB, who="ann", why="repaired")
        for machine in stage.alive("web").values():  # another failure, weeks later
            stage.simulator.make_unhealthy(machine.id)
        await asyncio.sleep(600)
        assert {machine.id for machine in stage.alive("web").values()} == before


@in_virtual_time
async def test_the_override_ends_with_the_instances() -> None:
    async with Stage() as stage:
        await _unhealthy(stage)
        await stage.operator.resume(group=WEB, despite_unhealthy=True, who="ann", why="replace them")
        assert named(stage)
        await stage.converged()
        await stage.until(lambda: not named(stage), within_s=20.0)
        assert stage.replica.declaration.record.orders == {WEB: stage.replica.declaration.record.orders_of(WEB)}
