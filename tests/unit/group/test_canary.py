"""Canaries bake before the others are updated; a rolling update without progress fails."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from infrakit.simulation.parts import UNKNOWN, SimulatedFlavor
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, GroupID, HealthReport
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets

G = GroupID("g")
GROUPS: list[Callable[..., dict[str, Any]]] = [
    lambda version=0, **more: cattle("g", 5, version=version, **more),
    lambda version=0, **more: pets("g", "a b c d e", version=version, **more),
    lambda version=0, **more: pets("g", "a b c d e", quorum=True, version=version, **more),
]


def count(stage: Stage, version: int) -> int:
    return sum(msgspec.json.decode(bytes(m.properties))["version"] == version for m in stage.alive("g").values())


def now() -> float:
    return asyncio.get_running_loop().time()


async def proven(stage: Stage) -> None:
    await stage.until(lambda: G in stage.replica.declaration.record.proven)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("updating", "canaries"),
    [
        ({"Canary": 1, "BakeTime": "3m"}, 1),
        ({"Canary": 2, "BakeTime": "3m", "MaxUnavailable": 2}, 2),
        ({"Canary": "40%", "BakeTime": "3m"}, 2),
        ({"Canary": "1%", "BakeTime": "3m", "MaxUnavailable": 4}, 1),
    ],
)
@in_virtual_time
async def test_the_others_are_updated_only_after_the_canaries_have_baked(
    group: Callable[..., dict[str, Any]], updating: dict[str, Any], canaries: int
) -> None:
    async with Stage() as stage:
        await stage.commit(group(updating=updating))
        await proven(stage)
        await stage.commit(group(1, updating=updating))
        await stage.until(lambda: count(stage, 1) == canaries)
        began, most = now(), 0
        while now() < began + 175:
            most = max(most, 5 - count(stage, 0))
            await asyncio.sleep(0.5)
        assert most == canaries
        waiting = (await stage.status("g")).waiting
        assert [w.rule for w in waiting] == ["canary"]
        assert "canaries healthy for 3m00s: " in waiting[0].reason
        assert waiting[0].reason.endswith(f" of {canaries}")
        await stage.converged()
        assert stage.versions("g") == {1}


@in_virtual_time
async def test_surge_capacity_creates_no_more_than_the_canaries_before_they_have_baked() -> None:
    updating = {"Canary": 1, "BakeTime": "2m", "MaxSurge": 3, "MaxUnavailable": 0}
    async with Stage() as stage:
        await stage.commit(cattle("g", 5, updating=updating))
        await proven(stage)
        await stage.commit(cattle("g", 5, version=1, updating=updating))
        await asyncio.sleep(110)
        assert (count(stage, 0), count(stage, 1)) == (5, 1)
        await stage.converged()
        assert (count(stage, 0), count(stage, 1)) == (0, 5)


@pytest.mark.parametrize("group", GROUPS)
@in_virtual_time
async def test_an_old_member_that_dies_while_the_canary_bakes_returns_with_the_proven_version(
    group: Callable[..., dict[str, Any]],
) -> None:
    updating = {"Canary": 1, "BakeTime": "5m"}
    async with Stage() as stage:
        await stage.commit(group(updating=updating))
        await proven(stage)
        await stage.commit(group(1, updating=updating))
        await stage.until(lambda: count(stage, 1) == 1)
        await asyncio.sleep(10)
        old = [slot for slot, m in stage.alive("g").items() if msgspec.json.decode(bytes(m.properties))["version"] == 0]
        stage.kill("g", old[-1])
        await stage.until(lambda: count(stage, 0) == 4)
        assert count(stage, 1) == 1
        await stage.converged()
        assert stage.versions("g") == {1}


@pytest.mark.parametrize("group", GROUPS)
@in_virtual_time
async def test_a_canary_that_fails_while_it_bakes_is_rolled_back_after_a_failover(
    group: Callable[..., dict[str, Any]],
) -> None:
    updating = {"Canary": 1, "BakeTime": "10m", "OnFailure": "rollback"}
    store = MemoryStore()
    first = Stage(store=store)
    async with first:
        await first.commit(group(updating=updating))
        await first.until(lambda: G in first.replica.declaration.record.proven, 1000)
        await first.commit(group(1, updating=updating))
        await first.until(lambda: count(first, 1) == 1)
        await asyncio.sleep(120)
    async with Stage(store=store, simulator=first.simulator) as second:
        await second.replica.active.wait()
        await asyncio.sleep(120)
        assert count(second, 1) == 1, "the new leader counts the bake time again"
        bad = next(m for m in second.simulator.live() if msgspec.json.decode(bytes(m.properties))["version"] == 1)
        second.simulator.make_unhealthy(bad.id)
        await second.until(lambda: any("rollback by infrakit" in m for m in second.messages(Kind.COMMITTED)))
        await second.converged()
        assert second.versions("g") == {0}


@in_virtual_time
async def test_a_return_to_the_proven_version_needs_no_canary() -> None:
    updating = {"Canary": 1, "BakeTime": "10m"}
    async with Stage() as stage:
        await stage.commit(cattle("g", 3, updating=updating))
        await stage.until(lambda: G in stage.replica.declaration.record.proven, 1000)
        await stage.commit(cattle("g", 3, version=1, updating=updating))
        await stage.until(lambda: count(stage, 1) == 1)
        began = now()
        await stage.operator.rollback(group=G, who="ann", why="a test")
        await stage.converged()
        assert stage.versions("g") == {0}
        assert now() - began < 120


class Silent(SimulatedFlavor):
    """A flavor that does not know the health of instances of version 1."""

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        report = await super().healthy(properties=properties, instance=instance)
        machine = next((m for m in self._simulator.live() if m.id == instance.id), None)
        new = machine is not None and msgspec.json.decode(bytes(machine.properties))["version"] == 1
        return UNKNOWN if new else report


@pytest.mark.parametrize("on_failure", ["pause", "rollback"])
@pytest.mark.parametrize("group", GROUPS)
@in_virtual_time
async def test_a_rolling_update_without_progress_fails(group: Callable[..., dict[str, Any]], on_failure: str) -> None:
    updating = {"ProgressDeadline": "5m", "OnFailure": on_failure}
    async with Stage(flavor_class=Silent) as stage:
        await stage.commit(group(updating=updating))
        await proven(stage)
        began = now()
        await stage.commit(group(1, updating=updating))
        await stage.until(
            lambda: any(f"{on_failure} by infrakit: no new instance" in m for m in stage.messages(Kind.COMMITTED))
        )
        assert 300 <= now() - began <= 310
        assert count(stage, 0) == 4


@pytest.mark.parametrize("group", GROUPS)
@in_virtual_time
async def test_a_slow_rolling_update_that_makes_progress_does_not_fail(group: Callable[..., dict[str, Any]]) -> None:
    updating = {"ProgressDeadline": "150s", "BakeTime": "100s", "Canary": 1, "Settle": "100s"}
    async with Stage() as stage:
        await stage.commit(group(updating=updating))
        await proven(stage)
        began = now()
        await stage.commit(group(1, updating=updating))
        await stage.converged(2000)
        assert now() - began > 400
        assert not any("by infrakit: no new instance" in m for m in stage.messages(Kind.COMMITTED))


@in_virtual_time
async def test_the_progress_deadline_does_not_run_while_the_group_is_halted_or_paused() -> None:
    updating = {"ProgressDeadline": "60s"}
    async with Stage() as stage:
        await stage.commit(cattle("g", 5, updating=updating))
        await proven(stage)
        await stage.commit(cattle("g", 5, version=1, updating=updating))
        await stage.until(lambda: count(stage, 1) == 1)
        await stage.operator.halt(group=G, who="ann", why="a test")
        await asyncio.sleep(600)
        await stage.operator.unhalt(group=G, who="ann", why="a test")
        await asyncio.sleep(2)
        await stage.operator.pause(group=G, who="ann", why="a test")
        await asyncio.sleep(600)
        await stage.operator.resume(group=G, who="ann", why="a test")
        await stage.converged()
        assert stage.versions("g") == {1}
        assert not any("by infrakit: no new instance" in m for m in stage.messages(Kind.COMMITTED))
