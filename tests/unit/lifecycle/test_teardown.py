"""The destruction of one group from outside: every machine that is ours, whatever the provider does, and no other."""

import asyncio
import json
import random

import msgspec
import pytest

from infrakit.gate.authority import NotBegun, Teardown
from infrakit.gate.gate import Gate
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.lifecycle.teardown import GroupTeardown
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spec import document
from infrakit.spi import errors, values
from infrakit.spi.values import Attachment, InstanceSpec, LogicalID
from tests.stage import cattle, in_virtual_time, pets


def teardown_of(simulator: Simulator, faults: Faults) -> tuple[GroupTeardown, list[str]]:
    reported: list[str] = []
    simulator.faults = faults
    (group,) = document.parse(json.dumps([cattle("web", 5)]), source="doc")
    return GroupTeardown(group, simulator, None, reported.append), reported


def unhalted() -> Gate:
    """The gate of a teardown that no replica answers."""

    async def no_answer() -> None:
        return None

    return Gate(Teardown(no_answer))


async def simulator_with(count: int) -> Simulator:
    simulator = Simulator()
    for _ in range(count):
        spec = InstanceSpec(properties=msgspec.Raw(b"{}"), tags={values.TAG_GROUP: "web"})
        await simulator.provision(spec=spec)
    return simulator


@in_virtual_time
async def test_calls_to_a_faulty_provider_are_retried_until_every_machine_is_terminated() -> None:
    simulator = await simulator_with(40)
    each, reported = teardown_of(simulator, Faults(unreachable_rate=0.3, lost_rate=0.2))
    await each.run(asyncio.get_running_loop().time() + 600.0, unhalted())
    assert not any(machine.lives for machine in simulator.machines.values())
    assert len(set(reported)) == len(reported), "each failure is reported once"


@in_virtual_time
async def test_machines_that_remain_at_the_timeout_are_reported() -> None:
    simulator = await simulator_with(2)
    each, _ = teardown_of(simulator, Faults())

    async def destroy(**_: object) -> None:
        raise errors.Refused("protected")

    simulator.destroy = destroy  # type: ignore[method-assign]
    with pytest.raises(errors.Refused, match=r"group web: not terminated within the timeout: .*protected"):
        await each.run(asyncio.get_running_loop().time() + 5.0, unhalted())


@in_virtual_time
async def test_machines_that_the_provider_lists_late_are_destroyed_too() -> None:
    simulator = await simulator_with(0)
    late = Faults(lag=Spread(low=10.0), lag_max=12.0)
    simulator.faults = late
    spec = InstanceSpec(properties=msgspec.Raw(b"{}"), tags={values.TAG_GROUP: "web"})
    await simulator.provision(spec=spec)  # listed only after the lag
    each, _ = teardown_of(simulator, late)
    assert await each.machines() == []
    await each.run(asyncio.get_running_loop().time() + 60.0, unhalted())
    assert not any(machine.lives for machine in simulator.machines.values())


@in_virtual_time
async def test_a_teardown_ends_when_its_gate_admits_no_call_any_more() -> None:
    simulator = await simulator_with(2)
    each, _ = teardown_of(simulator, Faults())

    async def lifted() -> bool:
        return False

    with pytest.raises(NotBegun, match="the halt of the cluster was lifted"):
        await each.run(asyncio.get_running_loop().time() + 60.0, Gate(Teardown(lifted)))
    assert all(machine.lives for machine in simulator.machines.values())


@in_virtual_time
async def test_a_volume_is_kept_if_an_instance_of_another_cluster_may_hold_it() -> None:
    simulator, reported = Simulator(random=random.Random(1)), list[str]()
    (group,) = document.parse(json.dumps([pets("db", "a b", volumes=True)]), source="doc")
    volumes = {name: Attachment(id=f"vol-{name}", type="volume") for name in "ab"}
    for name, cluster in (("a", "c2"), ("b", "c1")):
        tags = {values.TAG_GROUP: "db", values.TAG_TOKEN: f"{cluster}/db/{name}/1"}
        spec = InstanceSpec(tags=tags, logical_id=LogicalID(name), attachments=(volumes[name],))
        await simulator.provision(spec=spec)
    each = GroupTeardown(group, simulator, SimulatedFlavor(simulator, random.Random(1)), reported.append)
    each.clusters = {"c1"}
    await each.run(asyncio.get_running_loop().time() + 60.0, unhalted())
    simulator.kill(simulator.live()[0].id)  # that of the other cluster, which will replace it
    await each.delete_volumes(unhalted())
    assert await simulator.existing(attachments=list(volumes.values())) == [volumes["a"]]
    assert "volumes of a are not deleted: an instance of another cluster may hold them" in reported


class SlowVolumes(Simulator):
    """A provider that takes five seconds to delete a volume."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[str] = []

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        await asyncio.sleep(5.0)
        self.deleted.append(attachment.id)


@in_virtual_time
async def test_no_volume_is_deleted_after_the_halt_was_lifted() -> None:
    provider, reported = SlowVolumes(), list[str]()

    async def halted() -> bool:
        return not provider.deleted

    (group,) = document.parse(json.dumps([pets("db", "a b c", volumes=True)]), source="doc")
    flavor = SimulatedFlavor(provider, random.Random(3))
    with pytest.raises(NotBegun, match="the halt of the cluster was lifted"):
        await GroupTeardown(group, provider, flavor, reported.append).delete_volumes(Gate(Teardown(halted)))
    assert provider.deleted == ["vol-a"]
    assert reported == ["volume vol-a of a is deleted"]
