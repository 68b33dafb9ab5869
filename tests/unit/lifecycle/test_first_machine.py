"""Bootstrap of a cluster whose store runs on its own machines, and recovery after the loss of its quorum."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from infrakit.gate.authority import NotBegun
from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.lifecycle.access import DirectStore
from infrakit.lifecycle.first_machine import BootstrapRequest, bootstrap
from infrakit.lifecycle.seed import SeedChoice
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.declaration.store import Declaration
from infrakit.manager.lead.last_read import LastRead
from infrakit.simulation import loop
from infrakit.simulation.parts import FlavorFaults, Plugins, SimulatedFlavor
from infrakit.spec import document
from infrakit.spi import errors, values
from infrakit.spi.instance import DestroyContext
from infrakit.spi.manager import Halt
from infrakit.spi.store import Document
from infrakit.spi.token import cluster_of
from infrakit.spi.values import Attachment, Description, InstanceSpec, State
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets

QUORUM = pets("etcd", "a b c", quorum=True, volumes=True)


class QuorumStore(MemoryStore):
    """A store that answers while at least `needs` machines run."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self.simulator = simulator
        self.needs = 1

    async def read(self, *, name: str) -> Document:
        if sum(machine.lives for machine in self.simulator.machines.values()) < self.needs:
            raise errors.Unreachable("no quorum", where="store")
        return await super().read(name=name)


class Cluster:
    """A provider, a store on its machines, and an operator."""

    def __init__(self) -> None:
        self.rng = random.Random(3)
        self.simulator = Simulator(random=self.rng)
        self.flavor = SimulatedFlavor(self.simulator, self.rng)
        self.flavor.faults = FlavorFaults()
        self.store = QuorumStore(self.simulator)
        self.clock = loop.VirtualClock()
        self.reported: list[str] = []
        self.plugins: Plugins | None = None

    async def bootstrap(self, *groups: dict[str, Any], last: LastRead | None = None, **plan: Any) -> int:
        request = BootstrapRequest(text=json.dumps(groups or (QUORUM,)), source="doc", who="ann", why="a test", **plan)
        plugins = self.plugins or Plugins(self.simulator, self.flavor)
        access = DirectStore(self.store, self.clock)
        return await bootstrap(
            request, plugins=plugins, access=access, clock=self.clock, report=self.reported.append, last=last
        )

    @property
    def machines(self) -> dict[str, Machine]:
        return {str(m.logical_id): m for m in self.simulator.machines.values() if m.lives}


@in_virtual_time
async def test_bootstrap_creates_one_machine_and_stores_the_declaration() -> None:
    cluster = Cluster()
    assert await cluster.bootstrap() == 1
    assert list(cluster.machines) == ["a"]
    tags = cluster.machines["a"].tags
    assert tags[values.TAG_GROUP] == "etcd"
    assert tags[values.TAG_LOGICAL_ID] == "a"
    declaration = Declaration(cluster.store, cluster.clock)
    record = await declaration.load()
    [group] = record.groups.values()
    assert group.properties.allocation.logical_ids == ("a", "b", "c")
    assert (record.entry.who, record.entry.what) == ("ann", "bootstrap")
    # a second bootstrap creates nothing and commits nothing
    assert await cluster.bootstrap() == 1
    assert list(cluster.machines) == ["a"]
    assert "left unchanged" in cluster.reported[-1]


@in_virtual_time
async def test_the_cluster_that_bootstrap_has_drawn_is_adopted_by_its_store_and_by_no_other() -> None:
    cluster = Cluster()
    await cluster.bootstrap()
    seed = cluster.machines["a"]
    cluster.store.needs = 0
    drawn = cluster_of(seed.tags)
    assert drawn.startswith("bootstrap-")
    async with Stage(simulator=cluster.simulator, seed=5) as other:
        await other.commit(QUORUM)
        await other.until(lambda: other.controller("etcd").plan.blocked)
        await asyncio.sleep(10.0)
        assert seed.id not in other.controller("etcd").view.members
        assert cluster.machines["a"].id == seed.id
        await other.operator.halt(who="ann", why="the first one goes on")
    for each in ("b", "c"):
        cluster.simulator.kill(cluster.machines[each].id)
    for number in (1, 2):  # the second is after a failover
        async with Stage(simulator=cluster.simulator, store=cluster.store, seed=number) as stage:
            await stage.replica.active.wait()
            await stage.converged()
            assert seed.id in stage.controller("etcd").view.members
            assert drawn in (await stage.operator.status()).clusters


@pytest.mark.parametrize("answers_already", [False, True])
@in_virtual_time
async def test_a_repeated_bootstrap_adopts_the_machine_of_an_interrupted_one(*, answers_already: bool) -> None:
    cluster = Cluster()
    cluster.store.needs = 2
    with pytest.raises(errors.Unreachable):
        await cluster.bootstrap(timeout_s=1.0)
    drawn = cluster_of(cluster.machines["a"].tags)
    if answers_already:
        cluster.store.needs = 1
    else:
        asyncio.get_running_loop().call_later(5.0, setattr, cluster.store, "needs", 1)
    assert await cluster.bootstrap() == 1
    assert (await Declaration(cluster.store, cluster.clock).load()).adopted == (drawn,)
    assert list(cluster.machines) == ["a"]


@pytest.mark.parametrize(
    ("tokens", "name"),
    [(("c1/etcd/b/2", "c1/etcd/c/3"), "c1"), (("c1/etcd/b/2", "c2/etcd/c/3"), ""), ((None, "bootstrap/etcd/c/9"), "")],
)
@in_virtual_time
async def test_recovery_creates_a_machine_of_the_cluster_that_the_others_belong_to(
    tokens: tuple[str | None, ...], name: str
) -> None:
    cluster = Cluster()
    cluster.store.needs = 0
    await cluster.bootstrap()
    for each, token in zip(("b", "c"), tokens, strict=True):
        tags = {values.TAG_GROUP: "etcd"} | ({values.TAG_TOKEN: token} if token else {})
        await cluster.simulator.provision(spec=InstanceSpec(tags=tags, logical_id=values.LogicalID(each)))
    cluster.store.needs = 3
    await cluster.bootstrap(recover=True)
    created = cluster_of(cluster.machines["a"].tags)
    adopted = (await Declaration(cluster.store, cluster.clock).load()).adopted
    if name:
        assert (created, adopted) == (name, ())
    else:
        assert created.startswith("bootstrap-")
        assert adopted == (created,)


@pytest.mark.parametrize("recover", [False, True])
@pytest.mark.parametrize("group", [None, values.GroupID("etcd")])
@in_virtual_time
async def test_the_halt_that_was_last_read_here_is_obeyed(group: values.GroupID | None, *, recover: bool) -> None:
    cluster = Cluster()
    declared = document.parse(json.dumps([QUORUM]), source="doc")
    halt = Halt(group=group, who="ann", when="now", why="fire")
    record = changes.halt(group, halt)(changes.declare(tuple(declared))(DeclarationRecord()))
    last = LastRead(at="2026-11-30T12:00:00.5Z", version=7, declaration=record)
    what = f"{group or 'everything'} is halted by ann .fire., as the store was last read here at 2026-11-30"
    with pytest.raises(NotBegun, match=f"{what}.*--despite-halt"):
        await cluster.bootstrap(recover=recover, last=last)
    assert cluster.machines == {}
    await cluster.bootstrap(despite_halt=True, last=last)
    assert cluster.machines.keys() == {"a"}
    other = Cluster()
    await other.bootstrap(pets("zk", "a b c", quorum=True, volumes=True), last=last)
    assert other.machines.keys() == {"a"}, "it was the declaration of another cluster"
    unhalted = msgspec.structs.replace(last, declaration=changes.halt(group, None)(record))
    another = Cluster()
    await another.bootstrap(last=unhalted)
    assert another.machines.keys() == {"a"}


@in_virtual_time
async def test_two_concurrent_bootstraps_create_one_machine() -> None:
    first, second = Cluster(), Cluster()
    second.simulator, second.store, second.flavor = first.simulator, first.store, first.flavor
    first.simulator.faults = Faults(provision=Spread(low=2.0))
    versions = await asyncio.gather(first.bootstrap(), second.bootstrap(), return_exceptions=True)
    assert list(first.machines) == ["a"]
    reported = [*first.reported, *second.reported]
    assert sum("is created" in each for each in reported) == 1
    assert sum("created it first" in each or "exists already" in each for each in reported) == 1
    assert sorted(str(type(each).__name__) for each in versions) in (["Conflict", "int"], ["int", "int"])
    assert await second.bootstrap() == 1


@pytest.mark.parametrize("recover", [False, True])
@in_virtual_time
async def test_nothing_is_created_once_the_store_answers(recover: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    prepare = cluster.flavor.prepare

    async def quorum_returns(**arguments: Any) -> InstanceSpec:
        cluster.store.needs = 0
        return await prepare(**arguments)

    monkeypatch.setattr(cluster.flavor, "prepare", quorum_returns)
    assert await cluster.bootstrap(recover=recover) == 1
    assert not cluster.machines
    assert "the store answers now: nothing more is created from here" in cluster.reported


@in_virtual_time
async def test_a_repeated_bootstrap_waits_again_for_the_store_of_its_machine() -> None:
    cluster = Cluster()
    cluster.store.needs = 2
    for what in ("is created", "exists"):
        with pytest.raises(errors.Unreachable, match=f"a {what}, and the store does not answer after 5 s.*--recover"):
            await cluster.bootstrap(timeout_s=5.0)
        assert list(cluster.machines) == ["a"]


@in_virtual_time
async def test_bootstrap_refuses_a_group_with_machines_unless_it_is_to_recover_it() -> None:
    cluster = Cluster()
    await cluster.bootstrap()
    properties = cluster.machines["a"].properties
    for each in ("b", "c"):
        tags = {values.TAG_GROUP: "etcd", values.TAG_LOGICAL_ID: each}
        spec = InstanceSpec(properties=properties, tags=tags, logical_id=values.LogicalID(each))
        await cluster.simulator.provision(spec=spec)
    cluster.store.needs = 2
    for machine in list(cluster.simulator.machines.values()):
        if machine.logical_id in ("a", "b"):
            await cluster.simulator.destroy(instance=machine.id, context=DestroyContext())
    with pytest.raises(errors.Refused, match=r"machines exist already \(c\)"):
        await cluster.bootstrap()
    assert list(cluster.machines) == ["c"]
    assert await cluster.bootstrap(recover=True) == 2  # version 2 adopts the cluster that the new machine's token names
    assert sorted(cluster.machines) == ["a", "c"], "the leader creates the rest"
    assert cluster.machines["a"].attachments[0].id == "vol-a"


async def terminated_cluster(*, volumes: str) -> Cluster:
    """A cluster whose machines have all terminated, and of whose volumes only these exist."""
    cluster = Cluster()
    for each in "abc":
        spec = InstanceSpec(logical_id=values.LogicalID(each), attachments=(volume(each),))
        cluster.simulator.kill(await cluster.simulator.provision(spec=spec))
        if each not in volumes:
            await cluster.simulator.delete_attachment(attachment=volume(each))
    return cluster


def volume(logical_id: str) -> Attachment:
    return Attachment(id=f"vol-{logical_id}", type="volume")


@in_virtual_time
@pytest.mark.parametrize(
    ("volumes", "message"),
    [("abc", "vol-b, vol-c exist,"), ("bc", "vol-b, vol-c exist,"), ("c", "vol-c exists,"), ("ab", "vol-b exists,")],
)
async def test_bootstrap_refuses_to_start_beside_volumes_of_former_members(volumes: str, message: str) -> None:
    cluster = await terminated_cluster(volumes=volumes)
    with pytest.raises(
        errors.Refused, match=f"group etcd: no machines exist, but {message}.* infrakit bootstrap --rec"
    ):
        await cluster.bootstrap()
    assert not cluster.machines
    cluster.store.needs = 2
    assert await cluster.bootstrap(recover=True) == 1
    assert sorted(cluster.machines) == ["a", "b"]


@in_virtual_time
@pytest.mark.parametrize("volumes", ["a", ""])
async def test_bootstrap_starts_if_at_most_the_volume_of_its_own_machine_exists(volumes: str) -> None:
    cluster = await terminated_cluster(volumes=volumes)
    assert await cluster.bootstrap() == 1
    assert list(cluster.machines) == ["a"]


@in_virtual_time
async def test_the_chosen_seed_may_reuse_its_own_volume() -> None:
    cluster = await terminated_cluster(volumes="b")
    with pytest.raises(errors.Refused, match="vol-b exists"):
        await cluster.bootstrap(seed=SeedChoice(logical_id="c"))
    assert await cluster.bootstrap(seed=SeedChoice(logical_id="b")) == 1
    assert list(cluster.machines) == ["b"]


@in_virtual_time
async def test_a_timeout_of_the_volume_query_does_not_count_as_no_volumes() -> None:
    cluster = await terminated_cluster(volumes="bc")
    cluster.simulator = simulator = HangingVolumes(random=cluster.rng)
    with pytest.raises(errors.Unreachable, match="plugin simulator: no answer within 60 s"):
        await cluster.bootstrap()
    assert not simulator.machines


@in_virtual_time
async def test_a_creation_without_a_response_has_an_unknown_outcome() -> None:
    cluster = Cluster()
    cluster.simulator.faults = Faults(hang_rate=1.0)
    with pytest.raises(
        errors.OutcomeUnknown, match=r"no answer to the creation of a within 120 s.*lists machines first"
    ):
        await cluster.bootstrap()


class HangingVolumes(Simulator):
    """Its query for existing attachments never returns."""

    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        del attachments
        await asyncio.get_running_loop().create_future()
        raise AssertionError


def without_method(plugin: object, method: str) -> Any:
    """The same plugin without one of its methods."""
    names = (name for name in dir(plugin) if not name.startswith("_") and name != method)
    methods = {name: staticmethod(getattr(plugin, name)) for name in names if callable(getattr(plugin, name))}
    return type("Partial", (), methods)()


@in_virtual_time
@pytest.mark.parametrize(
    ("method", "group", "message"),
    [
        ("existing", QUORUM, "the provider simulator cannot list volumes of former members of etcd"),
        ("attachments", QUORUM, "the flavor simulated cannot list volumes of former members of etcd"),
        ("existing", pets("etcd", "a b c", quorum=True), ""),
        ("existing", pets("etcd", "a", quorum=True, volumes=True), ""),
        ("", QUORUM, ""),
    ],
)
async def test_a_plugin_that_cannot_list_volumes_is_named(method: str, group: Any, message: str) -> None:
    cluster = Cluster()
    cluster.plugins = Plugins(without_method(cluster.simulator, method), without_method(cluster.flavor, method))
    assert await cluster.bootstrap(group) == 1
    reported = [each for each in cluster.reported if "cannot list" in each]
    assert [each.startswith(message) for each in reported] == [True] * bool(message)
    assert all("infrakit bootstrap --recover" in each for each in reported)


@in_virtual_time
async def test_recovery_ends_when_every_machine_exists_and_the_store_does_not_answer() -> None:
    cluster = Cluster()
    cluster.store.needs = 9
    with pytest.raises(errors.Unreachable, match="every machine of etcd exists"):
        await cluster.bootstrap(recover=True)
    assert sorted(cluster.machines) == ["a", "b", "c"]


@in_virtual_time
@pytest.mark.parametrize(
    ("groups", "plan", "message"),
    [
        ((cattle("web", 2),), {}, "0 groups are a quorum; name the one with the store: --group, one of web"),
        ((QUORUM, pets("zoo", "x y z", quorum=True)), {}, "2 groups are a quorum"),
        ((QUORUM,), {"group": "nope"}, "there is no group 'nope'"),
    ],
)
async def test_the_group_with_the_store_must_be_unambiguous(groups: Any, plan: dict[str, Any], message: str) -> None:
    cluster = Cluster()
    with pytest.raises(errors.Refused) as refused:
        await cluster.bootstrap(*groups, **plan)
    assert message in str(refused.value)
    assert not cluster.machines


@in_virtual_time
async def test_an_invalid_document_creates_nothing() -> None:
    cluster = Cluster()
    with pytest.raises(errors.InvalidSpec):
        await cluster.bootstrap(pets("etcd", "a a", quorum=True))
    assert not cluster.machines


class SlowToStop(Simulator):
    """Lists a destroyed machine as stopping until `stops_at`."""

    stopping: Description | None = None
    stops_at = 0.0

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> list[Description]:
        listed = list(await super().describe_instances(tags=tags, properties=properties))
        is_stopping = self.stopping is not None and asyncio.get_running_loop().time() < self.stops_at
        return [*listed, *filter(None, [self.stopping] * is_stopping)]


@in_virtual_time
@pytest.mark.parametrize("stops_within_s", [20.0, 900.0])
async def test_a_stopping_machine_has_its_logical_id_until_it_has_terminated(stops_within_s: float) -> None:
    cluster = Cluster()
    cluster.simulator = slow = SlowToStop(random=cluster.rng)
    cluster.store = QuorumStore(slow)
    await cluster.bootstrap()
    [first] = slow.machines.values()
    await slow.destroy(instance=first.id, context=DestroyContext())
    slow.stopping = Description(id=first.id, logical_id=first.logical_id, tags=first.tags, state=State.STOPPING)
    slow.stops_at = asyncio.get_running_loop().time() + stops_within_s
    if stops_within_s > 60.0:
        with pytest.raises(errors.Refused, match=f"{first.id} is stopping, and has not terminated after 60 s"):
            await cluster.bootstrap()
        assert not cluster.machines
    else:
        assert await cluster.bootstrap() == 2  # version 2 adopts the cluster that the new machine's token names
        assert cluster.machines["a"].id != first.id
        assert asyncio.get_running_loop().time() > stops_within_s
