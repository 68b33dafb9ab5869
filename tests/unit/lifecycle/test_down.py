"""The end of a cluster from outside: nothing is ended while anybody inside may act."""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.lifecycle import down
from infrakit.lifecycle.replicas import SelfHosted
from infrakit.lifecycle.teardown import GroupTeardown
from infrakit.rpc.server import Server
from infrakit.spec import document
from infrakit.spi import errors, values
from infrakit.spi.manager import Halt, LeaderStatus
from infrakit.spi.values import GroupID, InstanceSpec
from tests.stage import cattle, in_virtual_time, pets
from tests.unit.cli import canned
from tests.unit.cli.canned import CannedManager

HALT = Halt(who="ann", when=canned.STARTED, why="the end")


class Scene:
    """A provider with machines of two groups, and a replica that answers at a socket, or not."""

    def __init__(self, place: str) -> None:
        self.simulator = Simulator()
        self.hosts = SelfHosted([GroupID("etcd")], [place])
        self.told: list[str] = []
        declared = document.parse(json.dumps([cattle("web", 2), pets("etcd", "a b c")]), source="doc")
        self.teardowns = [GroupTeardown(each, self.simulator, None, self.told.append) for each in declared]
        self.declared = document.render(declared)
        self.agreed = 0

    async def fill(self) -> None:
        for name, count in (("web", 2), ("etcd", 3)):
            for _ in range(count):
                spec = InstanceSpec(properties=msgspec.Raw(b"{}"), tags={values.TAG_GROUP: name})
                await self.simulator.provision(spec=spec)

    def agree(self, question: str) -> None:
        assert "2 of web, 3 of etcd" in question
        self.agreed += 1

    async def down(self, **more: bool) -> bool:
        order = down.TeardownRequest(text="", source="doc", who="ann", why="the end", timeout_s=20.0, **more)
        return await down.teardown(order, self.hosts, self.teardowns, self.told.append, self.agree)

    @property
    def living(self) -> int:
        return sum(machine.lives for machine in self.simulator.machines.values())


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def scene(short: Path) -> Scene:
    scene = Scene(f"unix://{short}/group")
    await scene.fill()
    return scene


@contextlib.asynccontextmanager
async def replica(scene: Scene) -> AsyncIterator[CannedManager]:
    """It declares what the document does, and knows of no halt."""
    manager = CannedManager()
    manager.groups = [canned.group("etcd"), canned.group("web")]

    async def show(*, version: int) -> str:
        assert version == 7
        return scene.declared

    manager.show = show  # type: ignore[method-assign]
    path = Path(scene.hosts.places[0].removeprefix("unix://"))
    async with Server(path, {".": manager}, events=manager.journal):
        yield manager


async def test_it_begins_when_the_leader_shows_the_halt_and_nothing_under_way(scene: Scene) -> None:
    async with replica(scene) as manager:
        seen: list[int] = []

        def ends() -> None:
            seen.append(scene.living)
            if not manager.orders:
                return
            if not manager.halts:  # it has read it, and a call is under way
                manager.halts = (HALT,)
                manager.groups = [canned.group("web", doing=(canned.WAIT,))]
            elif len(seen) > 4:
                manager.groups = [canned.group("web")]

        manager.on_status = ends
        await scene.down()
    assert scene.living == 0
    assert len(seen) >= 5
    assert set(seen) == {5}, "nothing was ended before"
    assert [name for name, _ in manager.orders] == ["halt"]
    assert scene.told[0] == "halted: no replica of the cluster acts any more"
    assert scene.told[1:] == [
        "destroying web: 2 instances",
        "web is destroyed",
        "destroying etcd: 3 instances",
        "etcd is destroyed",
    ]


async def test_nothing_is_ended_where_the_leader_does_not_show_the_halt(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(down, "HALT_S", 1.0)
    async with replica(scene) as manager:
        with pytest.raises(
            errors.Refused, match=r"the cluster is halted .* its leader has not confirmed that it is idle within 1 s"
        ):
            await scene.down()
        assert scene.living == 5
        assert [name for name, _ in manager.orders] == ["halt"]
        await scene.down(unhalted=True)
    assert scene.living == 0


async def test_the_word_of_one_that_has_lost_the_epoch_does_not_count(scene: Scene) -> None:
    async with replica(scene) as manager:
        manager.halts = (HALT,)
        plain = manager.leader

        async def leader() -> LeaderStatus:
            return msgspec.structs.replace(await plain(), leader="cox")

        manager.leader = leader  # type: ignore[method-assign]
        with pytest.raises(errors.Refused, match="the cluster is halted"):
            await scene.down()
        assert scene.living == 5


async def test_where_nobody_answers_only_the_operator_can_know(scene: Scene) -> None:
    with pytest.raises(errors.Refused, match=r"no replica answers, and machines exist.*--without-halt"):
        await scene.down()
    assert (scene.living, scene.agreed) == (5, 0)
    await scene.down(unhalted=True)
    assert (scene.living, scene.agreed) == (0, 1)


async def test_a_halt_that_the_store_does_not_take_is_none(scene: Scene) -> None:
    async with replica(scene) as manager:
        manager.failures["halt"] = errors.Unreachable("no quorum", where="store")
        with pytest.raises(errors.Refused, match=r"could not be halted.*no quorum"):
            await scene.down()
        assert scene.living == 5


async def test_a_document_without_all_groups_ends_nothing(scene: Scene) -> None:
    scene.teardowns = scene.teardowns[1:]
    async with replica(scene) as manager:
        with pytest.raises(errors.Refused, match="declares group web, which FILE omits"):
            await scene.down()
        assert (scene.living, manager.orders) == (5, [])


async def test_a_group_that_is_on_another_provider_ends_nothing(scene: Scene) -> None:
    for each in scene.teardowns:
        each.plugin = "docker"
    async with replica(scene) as manager:
        with pytest.raises(errors.Refused, match=r"the cluster has web on simulator, not on docker"):
            await scene.down()
        assert (scene.living, manager.orders) == (5, [])


async def test_a_provider_that_knows_none_of_the_machines_is_another(scene: Scene) -> None:
    for each in scene.teardowns:
        each._instance = Simulator()
    async with replica(scene) as manager:
        with pytest.raises(errors.Refused, match="answers, and the provider lists no machine of etcd"):
            await scene.down()
        assert manager.orders == []


def ended(simulator: Simulator, faults: Faults) -> tuple[GroupTeardown, list[str]]:
    told: list[str] = []
    simulator.faults = faults
    (group,) = document.parse(json.dumps([cattle("web", 5)]), source="doc")
    return GroupTeardown(group, simulator, None, told.append), told


async def filled(count: int) -> Simulator:
    simulator = Simulator()
    for _ in range(count):
        spec = InstanceSpec(properties=msgspec.Raw(b"{}"), tags={values.TAG_GROUP: "web"})
        await simulator.provision(spec=spec)
    return simulator


@in_virtual_time
async def test_a_provider_with_faults_is_asked_until_nothing_lives() -> None:
    simulator = await filled(40)
    each, told = ended(simulator, Faults(unreachable_rate=0.3, lost_rate=0.2))
    await each.run(asyncio.get_running_loop().time() + 600.0)
    assert not any(machine.lives for machine in simulator.machines.values())
    assert len(set(told)) == len(told), "each trouble once"


@in_virtual_time
async def test_what_is_left_when_the_time_is_up_is_told() -> None:
    simulator = await filled(2)
    each, _ = ended(simulator, Faults())

    async def destroy(**_: object) -> None:
        raise errors.Refused("protected")

    simulator.destroy = destroy  # type: ignore[method-assign]
    with pytest.raises(errors.Refused, match=r"group web: not terminated within the timeout: .*protected"):
        await each.run(asyncio.get_running_loop().time() + 5.0)


@in_virtual_time
async def test_a_provider_that_lists_late_is_asked_once_more() -> None:
    simulator = await filled(0)
    late = Faults(lag=Spread(low=10.0), lag_max=12.0)
    simulator.faults = late
    spec = InstanceSpec(properties=msgspec.Raw(b"{}"), tags={values.TAG_GROUP: "web"})
    await simulator.provision(spec=spec)  # which listings show in a while
    each, _ = ended(simulator, late)
    assert await each.machines() == []
    await each.run(asyncio.get_running_loop().time() + 60.0)
    assert not any(machine.lives for machine in simulator.machines.values())


def test_those_that_host_replicas_go_last() -> None:
    declared: Sequence[dict[str, object]] = [cattle("a", 1), pets("etcd", "a"), cattle("web", 1)]
    groups = document.parse(json.dumps(declared), source="doc")
    assert [each.name for each in down._in_order(groups, SelfHosted([GroupID("etcd")], []))] == ["web", "a", "etcd"]
