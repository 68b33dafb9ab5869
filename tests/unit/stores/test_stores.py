"""The contract of spec stores, checked for each of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.clients.swarm import Swarm
from infrakit.spi import errors
from infrakit.spi.store import Store
from infrakit.stores.etcd import EtcdStore
from infrakit.stores.file import FileStore
from infrakit.stores.memory import MemoryStore
from infrakit.stores.s3 import S3Store
from infrakit.stores.swarm import SwarmStore
from tests.integration.etcd.members import needs_etcd, running
from tests.integration.s3.buckets import Server, needs_s3, new_bucket
from tests.integration.swarm import engines
from tests.integration.swarm.engines import needs_swarm

WRITERS, ROUNDS = 8, 20


BACKENDS = [
    "file",
    "memory",
    pytest.param("etcd", marks=needs_etcd),
    pytest.param("s3", marks=needs_s3),
    pytest.param("swarm", marks=needs_swarm),
]


@pytest.fixture(params=BACKENDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    keep = {"short": 3}
    if request.param == "etcd":
        async with running(1, tmp_path) as cluster:
            yield EtcdStore(cluster.client, keep=keep)
        return
    if request.param == "s3":
        with Server().running() as server:
            async with new_bucket(server) as bucket:
                s3_store = S3Store(bucket, keep=keep, watch_interval_s=0.05)
                yield s3_store
                await s3_store.close()
        return
    if request.param == "swarm":
        with engines.running(1) as nodes:
            swarm_store = SwarmStore(Swarm(nodes.nodes[0].host), keep=keep)
            yield swarm_store
            await swarm_store.close()
        return
    local: Store = FileStore(tmp_path / "store", keep=keep) if request.param == "file" else MemoryStore(keep=keep)
    yield local
    await local.close()


async def write(store: Store, count: int, *, name: str = "doc", start: int = 0) -> None:
    for number in range(start, start + count):
        assert await store.replace(name=name, body=b"%d" % (number + 1), expected=number) == number + 1


async def test_a_document_that_was_never_written_is_empty(store: Store) -> None:
    document = await store.read(name="doc")
    assert (document.name, document.revision, document.body) == ("doc", 0, b"")
    assert await store.history(name="doc", limit=10) == []


async def test_a_written_document_is_read_back(store: Store) -> None:
    body = bytes(range(256)) * 100
    assert await store.replace(name="doc", body=body, expected=0) == 1
    document = await store.read(name="doc")
    assert (document.revision, document.body) == (1, body)
    assert (await store.read(name="other")).revision == 0


@pytest.mark.parametrize("expected", [0, 1, 3, 99])
async def test_a_stale_write_is_a_conflict_and_changes_nothing(store: Store, expected: int) -> None:
    await write(store, 2)
    with pytest.raises(errors.Conflict, match=f"doc is at revision 2, not {expected}"):
        await store.replace(name="doc", body=b"stale", expected=expected)
    assert [d.body for d in await store.history(name="doc", limit=10)] == [b"2", b"1"]


async def test_history_is_newest_first_and_bounded(store: Store) -> None:
    await write(store, 6)
    assert [d.revision for d in await store.history(name="doc", limit=4)] == [6, 5, 4, 3]


async def test_old_revisions_are_pruned_and_numbers_continue(store: Store) -> None:
    await write(store, 6, name="short")
    assert [d.revision for d in await store.history(name="short", limit=10)] == [6, 5, 4]
    await write(store, 1, name="short", start=6)


async def test_one_of_the_concurrent_writers_wins_each_revision(store: Store) -> None:
    won: list[int] = []

    async def writer(name: int) -> None:
        for _ in range(ROUNDS):
            seen = await store.read(name="doc")
            with contextlib.suppress(errors.Conflict):
                won.append(await store.replace(name="doc", body=seen.body + b"%d" % name, expected=seen.revision))

    async with asyncio.TaskGroup() as tasks:
        for name in range(WRITERS):
            tasks.create_task(writer(name))
    assert sorted(won) == list(range(1, len(won) + 1))
    assert len((await store.read(name="doc")).body) == len(won)  # nothing was overwritten


async def test_a_watch_yields_the_newest_revision_now_and_after_each_change(store: Store) -> None:
    await write(store, 2)
    async with asyncio.timeout(20):
        watch = store.watch(name="doc")
        assert await anext(watch) == 2
        await write(store, 1, start=2)
        assert await anext(watch) == 3
        await write(store, 2, start=3)
        assert await anext(watch) in {4, 5}
