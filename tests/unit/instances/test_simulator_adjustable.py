"""A user changes the faults of a running simulator by editing its document."""

import asyncio
import os
import random
from pathlib import Path

import msgspec
import pytest

from infrakit.instances.simulator.adjustable import Adjustable
from infrakit.runtime.registry import Registry
from infrakit.spi import errors, values
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import InstanceSpec, State

TAGS = {values.TAG_GROUP: "g"}
SPEC = InstanceSpec(properties=msgspec.Raw(b"{}"), tags=TAGS)


class EditedSimulator:
    """A simulator and its document; each write has a later modification time, however fast they follow."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.path = directory / "faults.yaml"
        self.simulator = Adjustable(directory)
        self._writes = 0

    def write(self, text: str) -> None:
        self._writes += 1
        self.path.write_text(text)
        os.utime(self.path, (self._writes, self._writes))

    async def states(self) -> list[object]:
        return [d.state for d in await self.simulator.describe_instances(tags=TAGS)]


@pytest.fixture
def edited(tmp_path: Path) -> EditedSimulator:
    return EditedSimulator(tmp_path / "simulator")


async def test_faults_follow_the_document(edited: EditedSimulator) -> None:
    assert await edited.states() == []
    edited.write("Down: true\n")
    with pytest.raises(errors.Unreachable):
        await edited.states()
    edited.write('{"Capacity": 1, "Provision": {"Low": 0.001}}')
    await edited.simulator.provision(spec=SPEC)
    with pytest.raises(errors.Refused, match="capacity is 1"):
        await edited.simulator.provision(spec=SPEC)
    edited.path.unlink()
    await edited.simulator.provision(spec=SPEC)
    assert await edited.states() == [State.RUNNING, State.RUNNING]


async def test_single_machines_become_unhealthy_and_terminate(edited: EditedSimulator) -> None:
    for _ in range(3):
        await edited.simulator.provision(spec=SPEC)
    edited.write("Unhealthy: [sim-1]\nTerminated: [sim-3, nobody]\n")
    assert await edited.states() == [State.IMPAIRED, State.RUNNING]
    edited.write("Terminated: [sim-3, sim-2]\n")
    assert await edited.states() == [State.IMPAIRED]  # an unhealthy machine does not recover


async def test_terminations_are_reported_once_to_a_watcher_that_is_late(edited: EditedSimulator) -> None:
    created = [await edited.simulator.provision(spec=SPEC) for _ in range(3)]
    hints = edited.simulator.watch()
    hint = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(0)
    await edited.simulator.provision(spec=SPEC)
    await asyncio.sleep(0)
    assert not hint.done()
    for instance in created[:2]:
        await edited.simulator.destroy(instance=instance, context=DestroyContext())
    assert await hint == "machines have terminated"
    await edited.simulator.destroy(instance=created[2], context=DestroyContext())
    assert await anext(hints) == "machines have terminated"
    await hints.aclose()  # type: ignore[attr-defined]
    assert edited.simulator.watchers == []


async def test_an_invalid_document_fails_calls_with_every_problem_until_fixed(edited: EditedSimulator) -> None:
    edited.write("LsotRate: 0.5\nFailRate: 2\n")
    for _ in range(2):
        with pytest.raises(errors.InvalidSpec) as wrong:
            await edited.states()
        message = str(wrong.value)
        assert str(edited.path) in message
        assert 'did you mean "LostRate"?' in message
        assert "FailRate" in message
    edited.write("]")
    with pytest.raises(errors.InvalidSpec, match=r"faults\.yaml"):
        await edited.states()
    edited.write("")
    assert await edited.states() == []


async def test_the_registry_resolves_the_plugin_name_simulator(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert isinstance(await registry.instance("simulator"), Adjustable)
    assert "simulator" in registry.names("Instance")
    await registry.close()


class CountingRandom(random.Random):
    """Counts the numbers that are drawn from it."""

    drawn = 0

    def random(self) -> float:
        self.drawn += 1
        return super().random()


async def test_a_call_draws_nothing_from_the_random_numbers_of_the_system(tmp_path: Path) -> None:
    system = CountingRandom(1)
    simulator = Adjustable(tmp_path, random=system)
    for _ in range(10):
        await simulator.provision(spec=SPEC)
    assert system.drawn == 1
