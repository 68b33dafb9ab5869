"""A user changes the faults of a running simulator by editing its document."""

import os
from pathlib import Path

import msgspec
import pytest

from infrakit.instances.simulator.adjustable import Adjustable
from infrakit.runtime.registry import Registry
from infrakit.spi import errors, values
from infrakit.spi.values import InstanceSpec, State

TAGS = {values.TAG_GROUP: "g"}
SPEC = InstanceSpec(properties=msgspec.Raw(b"{}"), tags=TAGS)


class Desk:
    """A simulator and its document; each write has a later modification time, however fast they follow."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.path = directory / "faults.yaml"
        self.simulator = Adjustable(directory)
        self._writings = 0

    def write(self, text: str) -> None:
        self._writings += 1
        self.path.write_text(text)
        os.utime(self.path, (self._writings, self._writings))

    async def states(self) -> list[object]:
        return [d.state for d in await self.simulator.describe_instances(tags=TAGS)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "simulator")


async def test_faults_follow_the_document(desk: Desk) -> None:
    assert await desk.states() == []
    desk.write("Down: true\n")
    with pytest.raises(errors.Unreachable):
        await desk.states()
    desk.write('{"Capacity": 1, "Provision": {"Low": 0.001}}')
    await desk.simulator.provision(spec=SPEC)
    with pytest.raises(errors.Refused, match="capacity is 1"):
        await desk.simulator.provision(spec=SPEC)
    desk.path.unlink()
    await desk.simulator.provision(spec=SPEC)
    assert await desk.states() == [State.RUNNING, State.RUNNING]


async def test_single_machines_become_unhealthy_and_terminate(desk: Desk) -> None:
    for _ in range(3):
        await desk.simulator.provision(spec=SPEC)
    desk.write("Sick: [sim-1]\nDead: [sim-3, nobody]\n")
    assert await desk.states() == [State.IMPAIRED, State.RUNNING]
    desk.write("Dead: [sim-3, sim-2]\n")
    assert await desk.states() == [State.IMPAIRED]  # an unhealthy machine does not recover


async def test_an_invalid_document_fails_calls_with_every_problem_until_fixed(desk: Desk) -> None:
    desk.write("LsotRate: 0.5\nFailRate: 2\n")
    for _ in range(2):
        with pytest.raises(errors.InvalidSpec) as wrong:
            await desk.states()
        told = str(wrong.value)
        assert str(desk.path) in told
        assert 'did you mean "LostRate"?' in told
        assert "FailRate" in told
    desk.write("]")
    with pytest.raises(errors.InvalidSpec, match=r"faults\.yaml"):
        await desk.states()
    desk.write("")
    assert await desk.states() == []


async def test_it_is_what_declarations_name(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert isinstance(await registry.instance("simulator"), Adjustable)
    assert "simulator" in registry.names("Instance")
    await registry.close()
