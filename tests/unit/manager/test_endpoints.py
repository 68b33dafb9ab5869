"""Alive is whoever answers; ready is whoever can lead or follow, and who cannot says why in one line."""

import asyncio

import pytest

from infrakit.manager.api.forward import Relay
from infrakit.manager.api.roster import ReplicaEntry, Roster
from infrakit.manager.monitoring.endpoints import STORE_PATIENCE_S, pages
from infrakit.manager.monitoring.metrics import Counters
from infrakit.rpc.page import Page
from infrakit.spi import errors
from infrakit.spi.leadership import Observation
from infrakit.spi.store import Document
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time
from tests.unit.manager.test_replica import Told


class Troubled(MemoryStore):
    """A store that hangs, or fails, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.fails = ""
        self.reads = 0

    async def read(self, *, name: str) -> Document:
        self.reads += 1
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.fails:
            raise errors.Unreachable(self.fails, where="store")
        return await super().read(name=name)


async def asked(stage: Stage, path: str = "/readyz") -> Page:
    async with pages(stage.replica, stage.operator, Counters(stage.journal.emit)) as served:
        return await served[path]()


@in_virtual_time
async def test_a_leader_is_ready_once_it_acts() -> None:
    store = Troubled()
    store.fails = "connection\nrefused"
    async with Stage(store=store) as stage:
        await asyncio.sleep(1)
        page = await asked(stage)
        assert page.status == 503
        assert page.text == "not ready: store: connection refused\n"
        assert (await asked(stage, "/healthz")).status == 200
        store.fails = ""
        await stage.replica.active.wait()
        assert await asked(stage) == Page("ready: it leads with epoch 1\n")


@in_virtual_time
async def test_a_follower_is_ready_while_it_knows_that_another_node_leads() -> None:
    leadership = Told()
    async with Stage(leadership=leadership) as stage:
        assert (await asked(stage)).text == "not ready: no leader has been observed yet\n"
        leadership.say(False, valid_s=30.0)
        await asyncio.sleep(1)
        assert await asked(stage) == Page("ready: it follows\n")
        stage.replica.observation = Observation(
            leader=False, begun_at=asyncio.get_running_loop().time(), valid_s=30.0, who="node2"
        )
        assert await asked(stage) == Page("ready: it follows node2\n")
        await asyncio.sleep(31)
        assert (await asked(stage)).status == 503


@in_virtual_time
async def test_a_store_that_fails_or_hangs_makes_even_a_follower_unready() -> None:
    leadership, store = Told(), Troubled()
    async with Stage(leadership=leadership, store=store) as stage:
        leadership.say(False)
        await asyncio.sleep(1)
        store.fails = "disk\non fire"
        assert (await asked(stage)).text == "not ready: the store cannot be read: store: disk on fire\n"
        store.fails, store.hangs = "", True
        began = asyncio.get_running_loop().time()
        assert (await asked(stage)).text == "not ready: the store has not answered for 2 s\n"
        assert asyncio.get_running_loop().time() - began < STORE_PATIENCE_S + 0.1


@in_virtual_time
@pytest.mark.parametrize("silent", [False, True])
async def test_what_is_observed_of_leadership_is_told_also_without_a_store(silent: bool) -> None:
    store, leadership = Troubled(), Told()
    async with Stage(store=store, leadership=leadership) as stage:
        leadership.say(False)
        await asyncio.sleep(1)
        store.hangs, store.fails = silent, "no quorum"
        seen = await stage.operator.leader()
        assert seen.observed == "told so"
        assert seen.leader == ""
        expected = "the store has not answered for 6 s" if silent else "the store cannot be read: store: no quorum"
        assert seen.note == expected


@in_virtual_time
async def test_one_reason_is_told_once() -> None:
    store = Troubled()
    store.fails = "no quorum"
    async with Stage(store=store) as stage:
        await asyncio.sleep(3)
        entry = ReplicaEntry(address="/nowhere", version="0", format=1, host="here", pid=1, started="now")
        relay = Relay(stage.operator, stage.replica, Roster(store, "stage", entry))
        assert (await relay.status()).note == "store: no quorum"
        assert (await relay.leader()).note == "the store cannot be read: store: no quorum"


@in_virtual_time
async def test_a_store_that_hangs_is_asked_once_by_all_probes() -> None:
    leadership, store = Told(), Troubled()
    async with Stage(leadership=leadership, store=store) as stage:
        leadership.say(False)
        await asyncio.sleep(1)
        async with pages(stage.replica, stage.operator, Counters(stage.journal.emit)) as served:
            store.hangs = True
            before = store.reads
            told = await asyncio.gather(*(served["/readyz"]() for _ in range(50)))
            assert {page.status for page in told} == {503}
            assert (await served["/readyz"]()).status == 503
            assert store.reads == before + 1
            store.hangs = False
            await asyncio.sleep(60)
            assert (await served["/readyz"]()).status == 200


@in_virtual_time
async def test_a_read_under_way_ends_with_the_pages() -> None:
    leadership, store = Told(), Troubled()
    async with Stage(leadership=leadership, store=store) as stage:
        leadership.say(False)
        await asyncio.sleep(1)
        before = asyncio.all_tasks()
        store.hangs = True
        assert (await asked(stage)).status == 503
        assert asyncio.all_tasks() == before


@in_virtual_time
async def test_the_figures_are_served_as_prometheus_expects_them() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        page = await asked(stage, "/metrics")
        assert page.media == "text/plain; version=0.0.4; charset=utf-8"
        assert "\ninfrakit_leader 1\n" in page.text
