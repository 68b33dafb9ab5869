"""The teardown of a cluster from outside: nothing is destroyed while a replica inside may act."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from infrakit.gate import authority
from infrakit.gate.authority import NotBegun
from infrakit.instances.simulator import Simulator
from infrakit.lifecycle import down
from infrakit.lifecycle.replicas import Replicas, SelfHosted
from infrakit.lifecycle.teardown import GroupTeardown
from infrakit.rpc.server import Server
from infrakit.spec import document
from infrakit.spi import errors, values
from infrakit.spi.manager import Halt, LeaderStatus, Status
from infrakit.spi.values import Description, GroupID, InstanceSpec
from tests.stage import cattle, pets
from tests.unit.cli import canned
from tests.unit.cli.canned import CannedManager

HALT = Halt(who="ann", when=canned.STARTED, why="the end")


class Cluster:
    """A provider with machines of two groups, and the socket at which a replica may answer."""

    def __init__(self, place: str) -> None:
        self.simulator = Simulator()
        self.hosts = SelfHosted([GroupID("etcd")], [place])
        self.reported: list[str] = []
        declared = document.parse(json.dumps([cattle("web", 2), pets("etcd", "a b c")]), source="doc")
        self.teardowns = [GroupTeardown(each, self.simulator, None, self.reported.append) for each in declared]
        self.declared = document.render(declared)
        self.confirmed = 0
        self.counts = "2 of web, 3 of etcd"

    async def create_machines(self) -> None:
        for name, count in (("web", 2), ("etcd", 3)):
            for _ in range(count):
                spec = InstanceSpec(properties=msgspec.Raw(b"{}"), tags={values.TAG_GROUP: name})
                await self.simulator.provision(spec=spec)

    def confirm(self, question: str) -> None:
        assert self.counts in question
        self.confirmed += 1

    async def down(self, **more: bool) -> bool:
        request = down.TeardownRequest(text="", source="doc", who="ann", why="the end", timeout_s=20.0, **more)
        return await down.teardown(request, self.hosts, self.teardowns, self.reported.append, self.confirm)

    @property
    def live_count(self) -> int:
        return sum(machine.lives for machine in self.simulator.machines.values())


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def cluster(short_path: Path) -> Cluster:
    cluster = Cluster(f"unix://{short_path}/group")
    await cluster.create_machines()
    return cluster


@contextlib.asynccontextmanager
async def replica(cluster: Cluster) -> AsyncIterator[CannedManager]:
    """A replica with the same declaration as the document, and without a halt."""
    manager = CannedManager()
    manager.groups = [canned.group("etcd"), canned.group("web")]

    async def show(*, version: int) -> str:
        assert version == 7
        return cluster.declared

    manager.show = show  # type: ignore[method-assign]
    path = Path(cluster.hosts.places[0].removeprefix("unix://"))
    async with Server(path, {".": manager}, events=manager.journal):
        yield manager


async def test_the_teardown_starts_when_the_leader_confirms_the_halt_and_is_idle(cluster: Cluster) -> None:
    async with replica(cluster) as manager:
        live_counts: list[int] = []

        def change_status() -> None:
            live_counts.append(cluster.live_count)
            if not manager.orders:
                return
            if not manager.halts:  # the leader has read the halt, and a call is in progress
                manager.halts = (HALT,)
                manager.groups = [canned.group("web", doing=(canned.WAIT,))]
            elif len(live_counts) > 4:
                manager.groups = [canned.group("web")]

        manager.on_status = change_status
        await cluster.down()
    assert cluster.live_count == 0
    assert len(live_counts) >= 5
    assert set(live_counts) == {5}, "nothing was destroyed before"
    assert [name for name, _ in manager.orders] == ["halt"]
    assert cluster.reported[0] == "halted: no replica of the cluster acts any more"
    assert cluster.reported[1:] == [
        "destroying web: 2 instances",
        "web is destroyed",
        "destroying etcd: 3 instances",
        "etcd is destroyed",
    ]


async def test_a_provider_that_ignores_the_tag_filter_loses_only_the_groups(cluster: Cluster) -> None:
    for tags in ({}, {values.TAG_GROUP: "other"}):
        await cluster.simulator.provision(spec=InstanceSpec(properties=msgspec.Raw(b"{}"), tags=tags))
    describe = cluster.simulator.describe_instances

    async def unfiltered(*, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        del tags
        return await describe(tags={}, properties=properties)

    cluster.simulator.describe_instances = unfiltered  # type: ignore[method-assign]
    async with replica(cluster) as manager:
        manager.on_status = lambda: setattr(manager, "halts", (HALT,) if manager.orders else ())
        await cluster.down()
    left = [machine for machine in cluster.simulator.machines.values() if machine.lives]
    assert [machine.tags.get(values.TAG_GROUP) for machine in left] == [None, "other"]


async def test_instances_of_other_clusters_are_left(cluster: Cluster) -> None:
    for token in ("c1/web/7/1", "c2/web/8/1"):
        tags = {values.TAG_GROUP: "web", values.TAG_TOKEN: token}
        await cluster.simulator.provision(spec=InstanceSpec(properties=msgspec.Raw(b"{}"), tags=tags))
    cluster.counts = "3 of web, 3 of etcd"
    async with replica(cluster) as manager:
        status = manager.status

        async def with_clusters() -> Status:
            manager.halts = (HALT,) if manager.orders else ()
            return msgspec.structs.replace(await status(), clusters=("c1",))

        manager.status = with_clusters  # type: ignore[method-assign]
        await cluster.down()
    [left] = [machine for machine in cluster.simulator.machines.values() if machine.lives]
    assert left.tags[values.TAG_TOKEN] == "c2/web/8/1"
    assert f"{left.id} is left: its token names the cluster c2" in cluster.reported


async def test_nothing_is_destroyed_unless_the_leader_confirms_the_halt(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(down, "HALT_S", 1.0)
    async with replica(cluster) as manager:
        with pytest.raises(
            errors.Refused, match=r"the cluster is halted .* its leader has not confirmed that it is idle within 1 s"
        ):
            await cluster.down()
        assert cluster.live_count == 5
        assert [name for name, _ in manager.orders] == ["halt"]
        await cluster.down(unhalted=True)
    assert cluster.live_count == 0


async def test_a_confirmation_by_a_replica_without_the_epoch_does_not_count(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(down, "HALT_S", 1.0)
    async with replica(cluster) as manager:
        manager.halts = (HALT,)
        leader_status = manager.leader

        async def leader() -> LeaderStatus:
            return msgspec.structs.replace(await leader_status(), leader="cox")

        manager.leader = leader  # type: ignore[method-assign]
        with pytest.raises(errors.Refused, match="the cluster is halted"):
            await cluster.down()
        assert cluster.live_count == 5


async def test_if_no_replica_answers_the_teardown_needs_without_halt(cluster: Cluster) -> None:
    with pytest.raises(errors.Refused, match=r"no replica answers, and machines exist.*--without-halt"):
        await cluster.down()
    assert (cluster.live_count, cluster.confirmed) == (5, 0)
    await cluster.down(unhalted=True)
    assert (cluster.live_count, cluster.confirmed) == (0, 1)


async def test_nothing_is_destroyed_if_the_halt_cannot_be_stored(cluster: Cluster) -> None:
    async with replica(cluster) as manager:
        manager.failures["halt"] = errors.Unreachable("no quorum", where="store")
        with pytest.raises(errors.Refused, match=r"could not be halted.*no quorum"):
            await cluster.down()
        assert cluster.live_count == 5


async def test_a_document_without_all_groups_destroys_nothing(cluster: Cluster) -> None:
    cluster.teardowns = cluster.teardowns[1:]
    async with replica(cluster) as manager:
        with pytest.raises(errors.Refused, match="declares group web, which FILE omits"):
            await cluster.down()
        assert (cluster.live_count, manager.orders) == (5, [])


async def test_a_document_with_another_provider_destroys_nothing(cluster: Cluster) -> None:
    for each in cluster.teardowns:
        each.plugin = "docker"
    async with replica(cluster) as manager:
        with pytest.raises(errors.Refused, match=r"the cluster has web on simulator, not on docker"):
            await cluster.down()
        assert (cluster.live_count, manager.orders) == (5, [])


async def test_a_provider_that_lists_no_machine_of_the_cluster_is_refused(cluster: Cluster) -> None:
    for each in cluster.teardowns:
        each._instance = Simulator()
    async with replica(cluster) as manager:
        with pytest.raises(errors.Refused, match="answers, and the provider lists no machine of etcd"):
            await cluster.down()
        assert manager.orders == []


async def test_a_teardown_stops_when_the_halt_is_lifted_during_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "RECENT_S", 0.1)
    async with replica(cluster) as manager:
        manager.groups = [canned.group("web")]

        def change_status() -> None:
            manager.version = 8 if manager.orders else 7
            manager.halts = (HALT,) if manager.orders and cluster.live_count > 3 else ()

        manager.on_status = change_status
        with pytest.raises(NotBegun, match="the halt of the cluster was lifted"):
            await cluster.down()
        assert "web is destroyed" in cluster.reported
        assert cluster.live_count == 3, "no machine of etcd was destroyed"


async def test_a_replica_that_has_not_read_the_halt_lifts_none(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been restarted without a quorum, and answers before it has read the store."""
    monkeypatch.setattr(authority, "RECENT_S", 0.1)
    async with replica(cluster) as manager:
        manager.groups = [canned.group("web")]

        def change_status() -> None:
            restarted = cluster.live_count <= 3
            manager.version = 0 if restarted else 8 if manager.orders else 7
            manager.halts = (HALT,) if manager.orders and not restarted else ()

        manager.on_status = change_status
        await cluster.down()
    assert cluster.live_count == 0


@pytest.mark.parametrize("in_use_is_stale", [True, False])
async def test_a_halt_that_another_replica_shows_as_lifted_is_not_trusted(
    short_path: Path, in_use_is_stale: bool
) -> None:
    """A follower without the leader and the store shows the halt for ever."""
    stale, newer = CannedManager(), CannedManager()
    stale.version, stale.halts = 8, (HALT,)
    newer.version, newer.halts = 9, ()
    in_use, other = (stale, newer) if in_use_is_stale else (newer, stale)
    request = down.TeardownRequest(text="", source="doc", who="ann", why="the end", timeout_s=20.0)
    paths = [short_path / "first", short_path / "second"]
    async with Replicas([f"unix://{path}" for path in paths]) as replicas:
        async with Server(paths[0], {".": in_use}, events=in_use.journal):
            assert (await replicas.ask("status")).version == in_use.version
            async with Server(paths[1], {".": other}, events=other.journal):
                assert await down._halt_stands(replicas, request, halted_at=8) is False
            assert await down._halt_stands(replicas, request, halted_at=8) is in_use_is_stale
            assert await down._halt_stands(replicas, request, halted_at=10) is None
        assert await down._halt_stands(replicas, request, halted_at=8) is None


def test_groups_that_host_replicas_are_destroyed_last() -> None:
    declared: Sequence[dict[str, object]] = [cattle("a", 1), pets("etcd", "a"), cattle("web", 1)]
    groups = document.parse(json.dumps(declared), source="doc")
    assert [each.name for each in down._in_order(groups, SelfHosted([GroupID("etcd")], []))] == ["web", "a", "etcd"]
