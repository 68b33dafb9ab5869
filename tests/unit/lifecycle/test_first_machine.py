"""From nothing to a store that its own machines keep, and back to it when their quorum is gone."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.lifecycle.access import DirectStore
from infrakit.lifecycle.first_machine import BootstrapRequest, bootstrap
from infrakit.lifecycle.seed import SeedChoice
from infrakit.manager.declaration.store import Declaration
from infrakit.simulation import loop
from infrakit.simulation.parts import FlavorFaults, Plugins, SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.instance import DestroyContext
from infrakit.spi.store import Document
from infrakit.spi.values import Attachment, Description, InstanceSpec, State
from infrakit.stores.memory import MemoryStore
from tests.stage import cattle, in_virtual_time, pets

QUORUM = pets("etcd", "a b c", quorum=True, volumes=True)


class Kept(MemoryStore):
    """A store that answers while `needs` machines live."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self.simulator = simulator
        self.needs = 1

    async def read(self, *, name: str) -> Document:
        if sum(machine.lives for machine in self.simulator.machines.values()) < self.needs:
            raise errors.Unreachable("no quorum", where="store")
        return await super().read(name=name)


class Scene:
    """A provider, a store on its machines, and an operator."""

    def __init__(self) -> None:
        self.rng = random.Random(3)
        self.simulator = Simulator(random=self.rng)
        self.flavor = SimulatedFlavor(self.simulator, self.rng)
        self.flavor.faults = FlavorFaults()
        self.store = Kept(self.simulator)
        self.clock = loop.VirtualClock()
        self.told: list[str] = []
        self.plugins: Plugins | None = None

    async def bootstrap(self, *groups: dict[str, Any], **plan: Any) -> int:
        asked = BootstrapRequest(text=json.dumps(groups or (QUORUM,)), source="doc", who="ann", why="a test", **plan)
        plugins = self.plugins or Plugins(self.simulator, self.flavor)
        access = DirectStore(self.store, self.clock)
        return await bootstrap(asked, plugins=plugins, access=access, clock=self.clock, report=self.told.append)

    @property
    def machines(self) -> dict[str, Machine]:
        return {str(m.logical_id): m for m in self.simulator.machines.values() if m.lives}


@in_virtual_time
async def test_one_machine_is_made_and_the_declaration_is_in_the_store() -> None:
    scene = Scene()
    assert await scene.bootstrap() == 1
    assert list(scene.machines) == ["a"]
    tags = scene.machines["a"].tags
    assert tags[values.TAG_GROUP] == "etcd"
    assert tags[values.TAG_LOGICAL_ID] == "a"
    declaration = Declaration(scene.store, scene.clock)
    record = await declaration.load()
    [group] = record.groups.values()
    assert group.properties.allocation.logical_ids == ("a", "b", "c")
    assert (record.entry.who, record.entry.what) == ("ann", "bootstrap")
    # a second time, nothing is made and nothing is committed
    assert await scene.bootstrap() == 1
    assert list(scene.machines) == ["a"]
    assert "left unchanged" in scene.told[-1]


@in_virtual_time
async def test_two_at_once_are_one() -> None:
    first, second = Scene(), Scene()
    second.simulator, second.store, second.flavor = first.simulator, first.store, first.flavor
    first.simulator.faults = Faults(provision=Spread(low=2.0))
    versions = await asyncio.gather(first.bootstrap(), second.bootstrap(), return_exceptions=True)
    assert list(first.machines) == ["a"]
    told = [*first.told, *second.told]
    assert sum("is created" in each for each in told) == 1
    assert sum("created it first" in each or "exists already" in each for each in told) == 1
    assert sorted(str(type(each).__name__) for each in versions) in (["Conflict", "int"], ["int", "int"])
    assert await second.bootstrap() == 1


@in_virtual_time
async def test_a_machine_whose_store_does_not_come_up_is_waited_for_again() -> None:
    scene = Scene()
    scene.store.needs = 2
    for what in ("is created", "exists"):
        with pytest.raises(errors.Unreachable, match=f"a {what}, and the store does not answer after 5 s.*--recover"):
            await scene.bootstrap(patience_s=5.0)
        assert list(scene.machines) == ["a"]


@in_virtual_time
async def test_a_group_that_has_machines_is_left_alone_unless_it_is_to_be_recovered() -> None:
    scene = Scene()
    await scene.bootstrap()
    properties = scene.machines["a"].properties
    for each in ("b", "c"):
        tags = {values.TAG_GROUP: "etcd", values.TAG_LOGICAL_ID: each}
        made = InstanceSpec(properties=properties, tags=tags, logical_id=values.LogicalID(each))
        await scene.simulator.provision(spec=made)
    scene.store.needs = 2
    for machine in list(scene.simulator.machines.values()):
        if machine.logical_id in ("a", "b"):
            await scene.simulator.destroy(instance=machine.id, context=DestroyContext())
    with pytest.raises(errors.Refused, match=r"machines exist already \(c\)"):
        await scene.bootstrap()
    assert list(scene.machines) == ["c"]
    assert await scene.bootstrap(recover=True) == 1
    assert sorted(scene.machines) == ["a", "c"], "the leader makes the rest"
    assert scene.machines["a"].attachments[0].id == "vol-a"


async def lost_together(*, volumes: str) -> Scene:
    """A scene in which machines have been, and only some of the volumes are left."""
    scene = Scene()
    for each in "abc":
        made = InstanceSpec(logical_id=values.LogicalID(each), attachments=(volume(each),))
        scene.simulator.kill(await scene.simulator.provision(spec=made))
        if each not in volumes:
            await scene.simulator.delete_attachment(attachment=volume(each))
    return scene


def volume(logical_id: str) -> Attachment:
    return Attachment(id=f"vol-{logical_id}", type="volume")


@in_virtual_time
@pytest.mark.parametrize(
    ("volumes", "said"),
    [("abc", "vol-b, vol-c exist,"), ("bc", "vol-b, vol-c exist,"), ("c", "vol-c exists,"), ("ab", "vol-b exists,")],
)
async def test_nothing_is_founded_beside_what_others_have_left(volumes: str, said: str) -> None:
    scene = await lost_together(volumes=volumes)
    with pytest.raises(errors.Refused, match=f"group etcd: no machines exist, but {said}.* infrakit bootstrap --rec"):
        await scene.bootstrap()
    assert not scene.machines
    scene.store.needs = 2
    assert await scene.bootstrap(recover=True) == 1
    assert sorted(scene.machines) == ["a", "b"]


@in_virtual_time
@pytest.mark.parametrize("volumes", ["a", ""])
async def test_a_volume_of_the_first_alone_is_its_own(volumes: str) -> None:
    scene = await lost_together(volumes=volumes)
    assert await scene.bootstrap() == 1
    assert list(scene.machines) == ["a"]


@in_virtual_time
async def test_the_first_is_the_one_that_is_meant() -> None:
    scene = await lost_together(volumes="b")
    with pytest.raises(errors.Refused, match="vol-b exists"):
        await scene.bootstrap(seed=SeedChoice(logical_id="c"))
    assert await scene.bootstrap(seed=SeedChoice(logical_id="b")) == 1
    assert list(scene.machines) == ["b"]


@in_virtual_time
async def test_what_is_not_answered_is_not_taken_for_nothing() -> None:
    scene = await lost_together(volumes="bc")
    scene.simulator = silent = Silent(random=scene.rng)
    with pytest.raises(errors.Unreachable, match="plugin simulator: no answer within 60 s"):
        await scene.bootstrap()
    assert not silent.machines


@in_virtual_time
async def test_a_creation_without_an_answer_may_have_happened() -> None:
    scene = Scene()
    scene.simulator.faults = Faults(hang_rate=1.0)
    with pytest.raises(
        errors.OutcomeUnknown, match=r"no answer to the creation of a within 120 s.*lists machines first"
    ):
        await scene.bootstrap()


class Silent(Simulator):
    """It never tells which attachments exist."""

    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        del attachments
        await asyncio.get_running_loop().create_future()
        raise AssertionError


def forgetful(plugin: object, ability: str) -> Any:
    """The same plugin without one of its abilities."""
    names = (name for name in dir(plugin) if not name.startswith("_") and name != ability)
    methods = {name: staticmethod(getattr(plugin, name)) for name in names if callable(getattr(plugin, name))}
    return type("Forgetful", (), methods)()


@in_virtual_time
@pytest.mark.parametrize(
    ("ability", "group", "said"),
    [
        ("existing", QUORUM, "the provider simulator cannot list volumes of former members of etcd"),
        ("attachments", QUORUM, "the flavor simulated cannot list volumes of former members of etcd"),
        ("existing", pets("etcd", "a b c", quorum=True), ""),
        ("existing", pets("etcd", "a", quorum=True, volumes=True), ""),
        ("", QUORUM, ""),
    ],
)
async def test_who_cannot_tell_of_volumes_is_named(ability: str, group: Any, said: str) -> None:
    scene = Scene()
    scene.plugins = Plugins(forgetful(scene.simulator, ability), forgetful(scene.flavor, ability))
    assert await scene.bootstrap(group) == 1
    told = [each for each in scene.told if "cannot list" in each]
    assert [each.startswith(said) for each in told] == [True] * bool(said)
    assert all("infrakit bootstrap --recover" in each for each in told)


@in_virtual_time
async def test_recovery_ends_when_every_machine_exists_and_the_store_is_still_silent() -> None:
    scene = Scene()
    scene.store.needs = 9
    with pytest.raises(errors.Unreachable, match="every machine of etcd exists"):
        await scene.bootstrap(recover=True)
    assert sorted(scene.machines) == ["a", "b", "c"]


@in_virtual_time
@pytest.mark.parametrize(
    ("groups", "plan", "said"),
    [
        ((cattle("web", 2),), {}, "0 groups are a quorum; name the one with the store: --group, one of web"),
        ((QUORUM, pets("zoo", "x y z", quorum=True)), {}, "2 groups are a quorum"),
        ((QUORUM,), {"group": "nope"}, "there is no group 'nope'"),
    ],
)
async def test_which_group_keeps_the_store_must_be_clear(groups: Any, plan: dict[str, str], said: str) -> None:
    scene = Scene()
    with pytest.raises(errors.Refused) as refused:
        await scene.bootstrap(*groups, **plan)
    assert said in str(refused.value)
    assert not scene.machines


@in_virtual_time
async def test_a_document_with_mistakes_makes_nothing() -> None:
    scene = Scene()
    with pytest.raises(errors.InvalidSpec):
        await scene.bootstrap(pets("etcd", "a a", quorum=True))
    assert not scene.machines


class Slow(Simulator):
    """A machine that has ended is listed as stopping for a while."""

    stopping: Description | None = None
    stops_at = 0.0

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> list[Description]:
        listed = list(await super().describe_instances(tags=tags, properties=properties))
        is_seen = self.stopping is not None and asyncio.get_running_loop().time() < self.stops_at
        return [*listed, *filter(None, [self.stopping] * is_seen)]


@in_virtual_time
@pytest.mark.parametrize("stops_within_s", [20.0, 900.0])
async def test_a_machine_that_is_stopping_bears_its_name_until_it_has_ended(stops_within_s: float) -> None:
    scene = Scene()
    scene.simulator = slow = Slow(random=scene.rng)
    scene.store = Kept(slow)
    await scene.bootstrap()
    [first] = slow.machines.values()
    await slow.destroy(instance=first.id, context=DestroyContext())
    slow.stopping = Description(id=first.id, logical_id=first.logical_id, tags=first.tags, state=State.STOPPING)
    slow.stops_at = asyncio.get_running_loop().time() + stops_within_s
    if stops_within_s > 60.0:
        with pytest.raises(errors.Refused, match=f"{first.id} is stopping, and has not terminated after 60 s"):
            await scene.bootstrap()
        assert not scene.machines
    else:
        assert await scene.bootstrap() == 1
        assert scene.machines["a"].id != first.id
        assert asyncio.get_running_loop().time() > stops_within_s
