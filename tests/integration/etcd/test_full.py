"""A database that has reached its quota: it takes a halt, and reports what to do where it cannot."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from infrakit.clients.etcd import FULL, Answer, Etcd, encode
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.store import Declaration
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from infrakit.spi.manager import Halt
from infrakit.stores import etcd as stores
from infrakit.stores.etcd import EtcdStore
from tests.integration.etcd.members import Cluster, needs_etcd, running
from tests.stage import Stage, cattle

pytestmark = needs_etcd

HALT = Halt(group=None, who="bob", when="2026-11-29T12:00:00Z", why="the wrong rack")
VALUE = encode(bytes(500_000))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(3, tmp_path) as cluster:
        yield cluster


async def fill(cluster: Cluster, key: Callable[[int], str]) -> None:
    """Write as another program until etcd refuses it, as it then refuses every write, however small."""

    async def put(value: str) -> None:
        for number in range(1000):
            await cluster.client.change("kv/put", {"key": encode(key(number)), "value": value})

    for value in (VALUE, encode(b"small")):
        with pytest.raises(errors.Refused, match="its database is full"):
            await put(value)


async def halt(declaration: Declaration) -> None:
    await declaration.change(changes.halt(None, HALT), what="halt", who="bob", why="a test")


@pytest.mark.parametrize(
    "key", [lambda _: "same", lambda number: f"key{number}"], ids=["by its history", "by keys in use"]
)
async def test_a_full_database_takes_a_halt_and_lifts_it(cluster: Cluster, key: Callable[[int], str]) -> None:
    store = EtcdStore(cluster.client)
    declaration = Declaration(store, SystemClock())
    await declaration.change(changes.halt(None, None), what="unhalt", who="bob", why="the first write")
    await store.replace(name="other", body=b"1", expected=0)
    await fill(cluster, key)
    await halt(declaration)
    elsewhere = Declaration(EtcdStore(cluster.client), SystemClock())
    assert (await elsewhere.load()).halt == HALT
    await declaration.change(changes.halt(None, None), what="unhalt", who="bob", why="a test")
    assert (await elsewhere.load()).halt is None
    await store.replace(name="other", body=b"2", expected=1)


async def test_a_leader_obeys_a_halt_that_its_full_database_takes(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "ROOM_AGAIN_S", 5.0)  # a member that made room late may report that it is full again
    store = EtcdStore(cluster.client)
    async with Stage(store=store, poll_s=0.2) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged(within_s=30.0)
        await fill(cluster, lambda number: f"key{number}")
        await stage.operator.halt(group=None, who="bob", why="a test")
        stage.kill("web", "1")
        await stage.until(lambda: len(stage.alive("web")) == 1, within_s=30.0)
        await stage.operator.unhalt(group=None, who="bob", why="a test")
        await stage.until(lambda: len(stage.alive("web")) == 2, within_s=60.0)
    await store.close()


async def test_the_reserve_is_stored_again_later(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "RESERVE_AGAIN_S", 0.0)
    store = EtcdStore(cluster.client)
    reserve = {"key": encode("/infrakit/reserve"), "keys_only": True}
    await store.replace(name="doc", body=b"1", expected=0)
    assert (await cluster.client.read("kv/range", reserve))["kvs"]
    await fill(cluster, lambda _: "same")
    await store.replace(name="doc", body=b"2", expected=1)
    assert "kvs" not in await cluster.client.read("kv/range", reserve)
    await store.replace(name="doc", body=b"3", expected=2)
    assert (await cluster.client.read("kv/range", reserve))["kvs"]


async def test_room_is_made_while_a_member_is_stopped(cluster: Cluster) -> None:
    declaration = Declaration(EtcdStore(cluster.client), SystemClock())
    await fill(cluster, lambda _: "same")
    leader = await cluster.leader()
    stopped = next(member for member in cluster.members if member is not leader)
    await stopped.kill()
    await halt(declaration)
    assert (await declaration.load()).halt == HALT


async def test_a_caller_that_stops_waiting_does_not_stop_the_making_of_room(cluster: Cluster) -> None:
    store = EtcdStore(cluster.client)
    await fill(cluster, lambda _: "same")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.replace(name="doc", body=b"1", expected=0)
    async with asyncio.timeout(30):
        assert await store.replace(name="doc", body=b"1", expected=0) == 1


async def test_a_store_that_is_closed_stops_making_room(cluster: Cluster) -> None:
    store = EtcdStore(Etcd(cluster.client.endpoints))
    await fill(cluster, lambda _: "same")
    writing = asyncio.ensure_future(store.replace(name="doc", body=b"1", expected=0))
    await asyncio.wait({writing}, timeout=0.05)
    await store.close()
    await asyncio.wait({writing})


async def test_without_room_a_write_is_refused_with_a_remedy(cluster: Cluster) -> None:
    store = EtcdStore(cluster.client, keep={"doc": 200})

    async def write() -> None:
        for revision in range((await store.read(name="doc")).revision, 100):
            await store.replace(name="doc", body=bytes(500_000), expected=revision)

    for _attempt in range(2):  # the second one does not make room again at once
        with pytest.raises(errors.Refused, match=r"its database is full.*quota-backend-bytes"):
            await write()
    assert 5 < (await store.read(name="doc")).revision < 100


@pytest.mark.parametrize("room", [True, False], ids=["with room", "without room"])
async def test_a_write_that_was_applied_and_refused_counts_as_done(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, room: bool
) -> None:
    """etcd checks its quota again when it applies a write, and returns the error of a write that it has applied."""
    store, change, refusals = EtcdStore(cluster.client), cluster.client.change, [FULL]

    async def applies_and_refuses(method: str, request: Mapping[str, object]) -> Answer:
        answer = await change(method, request)
        if method == "kv/txn" and refusals:
            raise errors.Refused(refusals.pop())
        return answer

    monkeypatch.setattr(cluster.client, "change", applies_and_refuses)
    if not room:
        refusals += [FULL]
    assert await store.replace(name="doc", body=b"1", expected=0) == 1
    refusals.clear()
    with pytest.raises(errors.Conflict):
        await store.replace(name="doc", body=b"1", expected=0)
    assert (await store.read(name="doc")).body == b"1"
