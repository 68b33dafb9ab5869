"""A replica is alive if it answers, and ready if it can lead or follow; if not, it reports why in one line."""

import asyncio
import collections

import pytest

from infrakit.manager.api.forward import Relay
from infrakit.manager.api.roster import ReplicaEntry, Roster
from infrakit.manager.monitoring.endpoints import STORE_TIMEOUT_S, pages
from infrakit.manager.monitoring.metrics import Counters
from infrakit.rpc.page import Page
from infrakit.spi import errors
from infrakit.spi.leadership import Observation
from infrakit.spi.store import Document
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time
from tests.unit.manager.test_replica import ScriptedObserver


class UnreliableStore(MemoryStore):
    """A store that hangs while `hangs` is set, and fails with the error `fails`."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.fails = ""
        self.reads: collections.Counter[str] = collections.Counter()

    async def read(self, *, name: str) -> Document:
        self.reads[name] += 1
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.fails:
            raise errors.Unreachable(self.fails, where="store")
        return await super().read(name=name)


async def fetched(stage: Stage, path: str = "/readyz") -> Page:
    async with pages(stage.replica, stage.operator, Counters(stage.journal.emit)) as served:
        return await served[path]()


@in_virtual_time
async def test_a_leader_is_ready_once_it_acts() -> None:
    store = UnreliableStore()
    store.fails = "connection\nrefused"
    async with Stage(store=store) as stage:
        await asyncio.sleep(1)
        page = await fetched(stage)
        assert page.status == 503
        assert page.text == "not ready: store: connection refused\n"
        assert (await fetched(stage, "/healthz")).status == 200
        store.fails = ""
        await stage.replica.active.wait()
        assert await fetched(stage) == Page("ready: it leads with epoch 1\n")


@in_virtual_time
async def test_a_follower_is_ready_while_its_observation_of_another_leader_is_valid() -> None:
    leadership = ScriptedObserver()
    async with Stage(leadership=leadership) as stage:
        assert (await fetched(stage)).text == "not ready: no leader has been observed yet\n"
        leadership.report(False, valid_s=30.0)
        await asyncio.sleep(1)
        assert await fetched(stage) == Page("ready: it follows\n")
        stage.replica.observation = Observation(
            leader=False, begun_at=asyncio.get_running_loop().time(), valid_s=30.0, who="node2"
        )
        assert await fetched(stage) == Page("ready: it follows node2\n")
        await asyncio.sleep(31)
        assert (await fetched(stage)).status == 503


@in_virtual_time
async def test_a_failing_or_hanging_store_makes_even_a_follower_unready() -> None:
    leadership, store = ScriptedObserver(), UnreliableStore()
    async with Stage(leadership=leadership, store=store) as stage:
        leadership.report(False)
        await asyncio.sleep(1)
        store.fails = "disk\non fire"
        assert (await fetched(stage)).text == "not ready: the store cannot be read: store: disk on fire\n"
        store.fails, store.hangs = "", True
        began = asyncio.get_running_loop().time()
        assert (await fetched(stage)).text == "not ready: the store has not answered for 2 s\n"
        assert asyncio.get_running_loop().time() - began < STORE_TIMEOUT_S + 0.1


@in_virtual_time
@pytest.mark.parametrize("silent", [False, True])
async def test_the_observed_leadership_is_reported_even_without_a_store(silent: bool) -> None:
    store, leadership = UnreliableStore(), ScriptedObserver()
    async with Stage(store=store, leadership=leadership) as stage:
        leadership.report(False)
        await asyncio.sleep(1)
        store.hangs, store.fails = silent, "no quorum"
        leader_status = await stage.operator.leader()
        assert leader_status.observed == "told so"
        assert leader_status.leader == ""
        expected = "the store has not answered for 6 s" if silent else "the store cannot be read: store: no quorum"
        assert leader_status.note == expected


@in_virtual_time
async def test_a_reason_is_reported_once() -> None:
    store = UnreliableStore()
    store.fails = "no quorum"
    async with Stage(store=store) as stage:
        await asyncio.sleep(3)
        entry = ReplicaEntry(address="/nowhere", version="0", format=1, host="here", pid=1, started="now")
        relay = Relay(stage.operator, stage.replica, Roster(store, "stage", entry))
        assert (await relay.status()).note == "store: no quorum"
        assert (await relay.leader()).note == "the store cannot be read: store: no quorum"


@in_virtual_time
async def test_the_leader_is_shown_with_every_replica_of_the_roster() -> None:
    entry = ReplicaEntry(address="/n", version="0", format=1, policies=("Canary",), host="here", pid=7, started="now")
    async with Stage() as stage:
        await stage.replica.active.wait()
        roster = Roster(stage.store, "stage", entry)
        keeping = asyncio.create_task(roster.keep())
        await asyncio.sleep(1)
        (row,) = (await Relay(stage.operator, stage.replica, roster).leader()).replicas
        assert (row.name, row.role, row.address, row.host, row.pid) == ("stage", "leader", "/n", "here", 7)
        keeping.cancel()


@in_virtual_time
async def test_a_replica_whose_machine_is_lost_is_removed_from_the_roster() -> None:
    entry = ReplicaEntry(address="/n", version="0", format=1, host="here", pid=7, started="now")
    async with Stage() as stage:
        await stage.replica.active.wait()
        roster, lost = (Roster(stage.store, name, entry) for name in ("stage", "node3"))
        keeping = asyncio.create_task(roster.keep())
        await lost.add()
        await asyncio.sleep(1)
        relay = Relay(stage.operator, stage.replica, roster)
        with pytest.raises(errors.Refused, match="stage answers at /n; stop it"):
            await relay.forget(replica="stage", who="ann", why="a slip")
        with pytest.raises(errors.NotFound, match=r"no replica 'node4'; did you mean node3\?"):
            await relay.forget(replica="node4", who="ann", why="a slip")
        await relay.forget(replica="node3", who="ann", why="replaced")
        assert set(await roster.entries()) == {"stage"}
        assert any("node3 is no replica any more, forgotten by ann: replaced" in e.message for e in stage.events)
        await lost.add()
        assert set(await roster.entries()) == {"stage", "node3"}, "it runs again"
        keeping.cancel()


@in_virtual_time
async def test_the_only_replica_has_no_other_to_forget() -> None:
    async with Stage() as stage:
        with pytest.raises(errors.NotFound, match="stage is the only one"):
            await stage.operator.forget(replica="node3", who="ann", why="a slip")


@in_virtual_time
async def test_all_probes_share_one_read_of_a_hanging_store() -> None:
    leadership, store = ScriptedObserver(), UnreliableStore()
    async with Stage(leadership=leadership, store=store) as stage:
        leadership.report(False)
        await asyncio.sleep(1)
        async with pages(stage.replica, stage.operator, Counters(stage.journal.emit)) as served:
            store.hangs = True
            before = store.reads["ledger"]
            responses = await asyncio.gather(*(served["/readyz"]() for _ in range(50)))
            assert {page.status for page in responses} == {503}
            assert (await served["/readyz"]()).status == 503
            assert store.reads["ledger"] == before + 1
            store.hangs = False
            await asyncio.sleep(60)
            assert (await served["/readyz"]()).status == 200


@in_virtual_time
async def test_closing_the_pages_cancels_a_read_in_progress() -> None:
    leadership, store = ScriptedObserver(), UnreliableStore()
    async with Stage(leadership=leadership, store=store) as stage:
        leadership.report(False)
        await asyncio.sleep(1)
        before = asyncio.all_tasks()
        store.hangs = True
        assert (await fetched(stage)).status == 503
        assert asyncio.all_tasks() == before


@in_virtual_time
async def test_the_metrics_are_served_in_the_format_of_prometheus() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        page = await fetched(stage, "/metrics")
        assert page.media == "text/plain; version=0.0.4; charset=utf-8"
        assert "\ninfrakit_leader 1\n" in page.text
