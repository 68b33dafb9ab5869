"""Ownership by the cluster's name in the token: two installations with one group name on one provider account."""

import asyncio
import random
from collections.abc import Callable

import msgspec
import pytest

from infrakit.instances.simulator import Machine, Simulator
from infrakit.manager.lead.ledger import NAME
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.instance import Instance
from infrakit.spi.token import cluster_of
from infrakit.spi.values import GroupID, InstanceID, InstanceSpec, LogicalID
from infrakit.stores.memory import MemoryStore
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

DB, WEB = GroupID("db"), GroupID("web")
HOUR_S = 3600.0


def second(first: Stage, **more: object) -> Stage:
    """A second installation on the account of the first, with a store of its own."""
    return Stage(simulator=first.simulator, seed=11, **more)  # type: ignore[arg-type]


def ids(machines: dict[str, Machine] | list[Machine]) -> set[InstanceID]:
    return {m.id for m in (machines.values() if isinstance(machines, dict) else machines)}


def members(stage: Stage, group: str) -> set[InstanceID]:
    return set(stage.controller(group).view.members)


async def name_of(stage: Stage) -> str:
    return (await stage.replica.peek()).cluster


def reported(stage: Stage) -> list[InstanceID | None]:
    """The instances of each event that names another cluster."""
    return [e.instance for e in stage.events if e.type is Kind.REFUSED and e.cause == "another-cluster"]


@pytest.mark.parametrize("provider", [None, MinimalProvider], ids=["inspects", "minimal"])
@in_virtual_time
async def test_two_installations_with_one_group_name_leave_each_other_alone(
    provider: Callable[[Simulator], Instance] | None,
) -> None:
    async with Stage(provider=provider) as one, second(one, provider=provider) as two:
        await one.commit(cattle("web", 4), pets("db", "a b c"))
        await one.converged()
        firsts = ids(one.simulator.live())
        await two.commit(cattle("web", 3), pets("db", "c d e"))
        await two.until(lambda: len(two.alive("web")) >= 3 and len(one.simulator.live()) == 12)
        await two.until(lambda: two.controller("web").plan.converged)
        seconds = ids(one.simulator.live()) - firsts
        await asyncio.sleep(HOUR_S)

        assert ids(one.simulator.live()) == firsts | seconds
        assert one.is_converged()
        assert (len(members(one, "web")), len(members(one, "db"))) == (4, 3)
        assert two.controller("web").plan.converged
        assert {m.slot for m in two.controller("db").view.members.values()} == {"d", "e"}
        assert sorted(map(str, reported(one))) == sorted(map(str, seconds))  # once each in an hour
        assert sorted(map(str, reported(two))) == sorted(map(str, firsts))

        first_name, second_name = await name_of(one), await name_of(two)
        blocked = {b.subject: b for b in two.controller("db").plan.blocked}
        assert first_name != second_name
        assert first_name in blocked["c"].reason
        assert f"infrakit adopt {first_name}" in blocked["c"].remedy
        explained = await one.operator.why(group=WEB)
        assert any(second_name in w.reason and f"infrakit adopt {second_name}" in w.remedy for w in explained.waiting)
        assert not [e for e in (*one.events, *two.events) if e.type in (Kind.DESTROYING, Kind.TERMINATED)]


@in_virtual_time
async def test_an_instance_of_another_cluster_is_explained_by_its_id() -> None:
    async with Stage() as one, second(one) as two:
        await one.commit(cattle("web", 1))
        await one.converged()
        await two.commit(cattle("web", 1))
        await two.converged()
        other = next(iter(members(one, "web")))
        explained = await two.operator.why(group=WEB, subject=other)
        assert await name_of(one) in explained.summary
        assert any("infrakit adopt" in w.remedy for w in explained.waiting)
        assert explained.story
        with pytest.raises(errors.NotFound):
            await two.operator.destroy_instance(instance=other, who="ann", why="a test")


@in_virtual_time
async def test_a_new_store_takes_over_the_instances_of_the_lost_one_once_they_are_adopted() -> None:
    simulator = Simulator(random=random.Random(1))
    async with Stage(simulator=simulator) as lost:
        await lost.commit(pets("db", "a b c", volumes=True, quorum=True), cattle("web", 2))
        await lost.converged()
        name = await name_of(lost)
    before = ids(simulator.live())
    async with Stage(simulator=simulator, seed=11) as new:
        await new.commit(pets("db", "a b c", volumes=True, quorum=True))
        await asyncio.sleep(60.0)
        assert ids(simulator.live()) == before
        assert not members(new, "db")
        committed = await new.operator.adopt(cluster=name, who="ann", why="its store was lost")
        await new.converged(within_s=30.0)
        await new.commit(cattle("web", 2))
        await new.converged(within_s=30.0)
        assert ids(simulator.live()) == before
        newest = (await new.operator.history())[0 if committed.version == new.replica.declaration.version else 1]
        assert (newest.what, newest.who, newest.why) == ("adopt", "ann", "its store was lost")
        assert name in (await new.operator.status()).clusters
        again = await new.operator.adopt(cluster=name, who="bob", why="again")
        assert again.unchanged

    async with Stage(simulator=simulator, store=new.store, seed=12) as later:  # a failover: durable
        await later.replica.active.wait()
        await later.converged(within_s=30.0)
        new_one = later.kill("db", "a")
        await later.until(lambda: later.is_converged() and new_one not in members(later, "db"))
        assert len(simulator.live()) == 5


@in_virtual_time
async def test_a_restored_store_still_owns_its_instances() -> None:
    store, watermark = MemoryStore(), WatermarkGuard()
    async with Stage(store=store, watermark=watermark) as stage:
        await stage.commit(pets("db", "a b"))
        await stage.converged()
        name, before = await name_of(stage), ids(stage.simulator.live())
    body = (await store.read(name=NAME)).body
    backup = MemoryStore()
    await backup.replace(name=NAME, body=body, expected=0)
    await backup.replace(name="declaration", body=(await store.read(name="declaration")).body, expected=0)
    accepting = WatermarkGuard(accept=True, mark=msgspec.structs.replace(watermark.mark, epoch=99))
    async with Stage(store=backup, simulator=stage.simulator, watermark=accepting, seed=11) as restored:
        await restored.replica.check_store()
        await restored.replica.active.wait()
        await restored.converged()
        assert await name_of(restored) != name
        assert members(restored, "db") == before == ids(stage.simulator.live())
        assert not reported(restored)


@pytest.mark.parametrize(
    "token", ["", "bootstrap/db/a/1f2e", "made-by-hand"], ids=["none", "of an earlier bootstrap", "not ours"]
)
@in_virtual_time
async def test_instances_whose_token_names_no_cluster_are_adopted(token: str) -> None:
    async with Stage() as stage:
        tags = {values.TAG_GROUP: "db", values.TAG_HASH: values.BOOTSTRAP} | (
            {values.TAG_TOKEN: token} if token else {}
        )
        seed = await stage.simulator.provision(spec=InstanceSpec(tags=tags, logical_id=LogicalID("a")))
        await stage.commit(pets("db", "a b"))
        await stage.converged()
        assert seed in members(stage, "db")
        assert not reported(stage)


@in_virtual_time
async def test_a_logical_id_of_another_cluster_is_free_once_its_instance_has_terminated() -> None:
    async with Stage() as one, second(one) as two:
        await one.commit(pets("db", "a"))
        await one.converged()
        await two.commit(pets("db", "a"))
        await two.until(lambda: two.controller("db").plan.blocked)
        assert (await two.status("db")).live == 0
        await one.stop()
        one.kill("db", "a")
        await two.converged(within_s=60.0)
        assert cluster_of(two.alive("db")["a"].tags) == await name_of(two)


@in_virtual_time
async def test_volumes_of_an_instance_of_another_cluster_are_not_deleted() -> None:
    async with Stage() as one, second(one) as two:
        await one.commit(pets("db", "a", volumes=True))
        await one.converged()
        await two.commit(pets("db", "a b", volumes=True))
        await two.until(lambda: "b" in two.alive("db"))
        await two.operator.destroy(group=DB, volumes=True, who="ann", why="a test")
        await two.until(lambda: not two.controllers())
        held = one.alive("db")["a"].attachments
        assert held
        assert await one.simulator.existing(attachments=held) == list(held)
        assert any("vol-a of a is not deleted" in m for m in two.messages(Kind.REFUSED))


@in_virtual_time
async def test_the_adoption_of_a_cluster_without_instances_is_noted() -> None:
    async with Stage() as one, second(one) as two:
        await one.commit(cattle("web", 1))
        await one.converged()
        await two.commit(cattle("web", 1))
        await two.converged()
        mistyped = await two.operator.adopt(cluster="nonsense", who="ann", why="a slip")
        assert "no instance of a declared group belongs to the cluster nonsense" in mistyped.notes[0]
        assert (await two.operator.adopt(cluster=await name_of(one), who="ann", why="a test")).notes == ()


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\n", "x" * 101])
@in_virtual_time
async def test_what_is_no_name_of_a_cluster_is_refused(name: str) -> None:
    async with Stage() as stage:
        await stage.replica.active.wait()
        with pytest.raises(errors.InvalidSpec, match="not a name of a cluster"):
            await stage.operator.adopt(cluster=name, who="ann", why="a test")
