"""A group that is freed while a creation is in flight, and declared again, gets no second bearer."""

import asyncio
import random

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.spi.values import GroupID
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

DB = GroupID("db")


@pytest.mark.parametrize("inspects", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("answer", ["hang_rate", "lost_rate"])
@in_virtual_time
async def test_a_creation_in_flight_is_not_forgotten(tokens: bool, answer: str, inspects: bool) -> None:
    faults = Faults(exclusive=False, tokens=tokens, lag=Spread(low=60.0, high=60.0))
    simulator = Simulator(msgspec.structs.replace(faults, **{answer: 1.0}), random=random.Random(3))
    most = 0

    def count(_what: str, _machine: Machine) -> None:
        nonlocal most
        most = max(most, sum(each.logical_id == "a" for each in simulator.live()))

    simulator.watchers.append(count)
    async with Stage(simulator=simulator, provider=None if inspects else MinimalProvider) as stage:
        await stage.commit(pets("db", "a"))
        await stage.until(lambda: simulator.calls.get("provision"))
        await stage.operator.free(group=DB, who="ann", why="by hand")
        await asyncio.sleep(1.0)
        await stage.commit(pets("db", "a"))
        await asyncio.sleep(200)
        stage.fault(**{answer: 0.0})
        await stage.converged()
        await asyncio.sleep(200)
        assert most == 1
        assert len(simulator.live()) == 1


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("answer", ["hang_rate", "lost_rate"])
@pytest.mark.parametrize("tokens", [True, False])
@in_virtual_time
async def test_creations_in_flight_are_not_forgotten_by_the_next_leader(
    tokens: bool, answer: str, version: int
) -> None:
    faults = Faults(exclusive=False, tokens=tokens, lag=Spread(low=60.0, high=60.0))
    simulator = Simulator(msgspec.structs.replace(faults, **{answer: 1.0}), random=random.Random(3))
    bearers: list[int] = []
    simulator.watchers.append(lambda _what, _machine: bearers.append(len(simulator.live())))
    async with Stage(simulator=simulator) as first:
        await first.commit(pets("db", "a"))
        await first.until(lambda: simulator.calls.get("provision"))
        await first.operator.free(group=DB, who="ann", why="by hand")
    async with Stage(simulator=simulator, store=first.store) as second:
        await second.commit(pets("db", "a", version=version))
        await asyncio.sleep(200)
        second.fault(**{answer: 0.0})
        await second.converged()
        await asyncio.sleep(200)
        assert max(bearers) == len(simulator.live()) == 1
        assert second.versions("db") == {version}


@pytest.mark.parametrize("answer", ["hang_rate", "lost_rate"])
@in_virtual_time
async def test_creations_of_cattle_in_flight_are_not_forgotten(answer: str) -> None:
    faults = Faults(lag=Spread(low=60.0, high=60.0))
    simulator = Simulator(msgspec.structs.replace(faults, **{answer: 1.0}), random=random.Random(3))
    live: list[int] = []
    simulator.watchers.append(lambda _what, _machine: live.append(len(simulator.live())))
    async with Stage(simulator=simulator) as stage:
        await stage.commit(cattle("db", 4))
        await stage.until(lambda: simulator.calls.get("provision") == 4)
        await stage.operator.free(group=DB, who="ann", why="by hand")
        await stage.commit(cattle("db", 4))
        await asyncio.sleep(200)
        stage.fault(**{answer: 0.0})
        await stage.converged()
        await asyncio.sleep(200)
        assert sorted(stage.alive("db")) == ["1", "2", "3", "4"]
        assert max(live) == 4
