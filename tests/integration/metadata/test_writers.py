"""Values in real stores, written by several replicas at once and over the wire: nothing acknowledged is lost."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.clients.etcd import Etcd
from infrakit.metadata.vars import NAME, Vars
from infrakit.rpc import client
from infrakit.rpc.server import Server
from infrakit.spi import errors, metadata
from infrakit.spi.clock import SystemClock
from infrakit.spi.metadata import Change, Updatable, Versioned
from infrakit.spi.store import Store
from infrakit.stores.etcd import EtcdStore
from infrakit.stores.file import FileStore
from tests.integration.etcd.members import needs_etcd, running

KEEP = {NAME: 200}
WRITERS = 2
WRITES = 15  # of each


def change(path: str, value: Any) -> tuple[Change, ...]:
    return (Change(path=path, value=msgspec.Raw(json.dumps(value).encode())),)


async def get(vars_: metadata.Metadata, path: str = "") -> Any:
    return json.loads(bytes(await vars_.get(path=path)))


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["file", pytest.param("etcd", marks=needs_etcd)])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Store]]:
    """Clients of one store, one for each replica."""
    if request.param == "file":
        yield [FileStore(tmp_path / "store", keep=KEEP) for _ in range(WRITERS)]
        return
    async with running(1, tmp_path) as cluster:
        await cluster.leader()
        urls = [member.client_url for member in cluster.members]
        clients = [EtcdStore(Etcd(urls), keep=KEEP) for _ in range(WRITERS)]
        try:
            yield [*clients]
        finally:
            for each in clients:
                await each.close()


async def test_two_concurrent_writers_lose_nothing(stores: list[Store]) -> None:
    replicas = [Vars(store, SystemClock()) for store in stores]

    async def write(number: int) -> None:
        for each in range(WRITES):
            path = f"writer{number}/n{each}"
            await replicas[number].write(changes=change(path, each), remove=(), who=str(number), why="test")
            if each % 3 == 2:
                await replicas[number].write(changes=(), remove=(path,), who=str(number), why="test")

    async with asyncio.TaskGroup() as tasks:
        for number in range(WRITERS):
            tasks.create_task(write(number))
    kept = {f"n{each}": each for each in range(WRITES) if each % 3 != 2}
    for replica in replicas:
        assert await get(replica) == {f"writer{number}": kept for number in range(WRITERS)}
    versions = [each.version for each in await replicas[0].history(limit=1000)]
    assert versions == list(range(WRITERS * (WRITES + WRITES // 3), 0, -1))


async def test_concurrent_increments_with_an_expected_version_are_not_lost(stores: list[Store]) -> None:
    """`expected` makes a read-modify-write safe: no increment is lost."""
    replicas = [Vars(store, SystemClock()) for store in stores]

    async def count(vars_: Vars) -> None:
        done = 0
        while done < WRITES:
            version = next((each.version for each in await vars_.history(limit=1)), 0)
            seen = await get(vars_, "count") or 0
            try:
                more = change("count", seen + 1)
                await vars_.write(changes=more, remove=(), who="ann", why="one more", expected=version)
                done += 1
            except errors.Conflict:
                await asyncio.sleep(0)

    await asyncio.gather(*(count(each) for each in replicas))
    assert await get(replicas[0], "count") == WRITERS * WRITES


async def test_concurrent_proposals_never_overwrite_each_other(stores: list[Store]) -> None:
    replicas = [Vars(store, SystemClock()) for store in stores]

    async def write(number: int) -> None:
        done = 0
        while done < WRITES:
            proposal = await replicas[number].changes(changes=change(f"w{number}/n{done}", done))
            try:
                await replicas[number].commit(proposed=proposal.proposed, cas=proposal.cas)
                done += 1
            except errors.Conflict:
                await asyncio.sleep(0)

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    everything = {f"n{each}": each for each in range(WRITES)}
    assert await get(replicas[1]) == {f"w{number}": everything for number in range(WRITERS)}


async def test_the_remote_client_reads_and_writes_like_the_local_plugin(directory: Path) -> None:
    vars_ = Vars(FileStore(directory / "store"), SystemClock())
    async with Server(directory / "group", {"vars": vars_}):
        remote = await client.connect(Updatable, "group/vars", str(directory / "group"))
        try:
            kinds: list[type] = [Updatable, Versioned]
            assert all(isinstance(remote, each) for each in kinds)
            written = await remote.write(changes=change("a/b", [1.5, "é", {"x": True}]), remove=(), who="ann", why="x")
            assert written.version == 1
            assert await get(remote, "a/b/[1]") == "é"
            assert list(await remote.keys(path="a") or ()) == ["b"]
            proposal = await remote.changes(changes=change("a/c", 1))
            await remote.commit(proposed=proposal.proposed, cas=proposal.cas)
            assert await get(vars_, "a/c") == 1
            with pytest.raises(errors.Conflict, match="cas mismatch"):
                await remote.commit(proposed=proposal.proposed, cas=proposal.cas)
            with pytest.raises(errors.NotFound, match="nothing at this path"):
                await remote.write(changes=(), remove=("a/x",), who="ann", why="x")
            assert [each.what for each in await remote.history(limit=5)] == ["set a/c", "set a/b"]
            assert json.loads(bytes(await remote.show(version=1))) == {"a": {"b": [1.5, "é", {"x": True}]}}
            assert (await remote.restore(version=1, who="ann", why="x")).version == 3
        finally:
            await remote.close()
