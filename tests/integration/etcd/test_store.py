"""The store in a real etcd: failover, loss of the quorum, hanging members, and a full database."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.clients.etcd import Etcd
from infrakit.spi import errors
from infrakit.stores.etcd import BODY_BYTES_MAX, EtcdStore
from tests.integration.etcd.members import Cluster, needs_etcd, running

pytestmark = needs_etcd


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(3, tmp_path) as cluster:
        yield cluster


async def test_no_acknowledged_write_is_lost_when_the_leader_is_killed(cluster: Cluster) -> None:
    store = EtcdStore(cluster.client)
    for number in range(10):
        await store.replace(name="doc", body=b"%d" % number, expected=number)
    await (await cluster.leader()).kill()
    await cluster.leader()
    assert (await store.read(name="doc")).body == b"9"
    assert [d.revision for d in await store.history(name="doc", limit=3)] == [10, 9, 8]
    assert await store.replace(name="doc", body=b"on", expected=10) == 11


async def test_without_a_quorum_reads_fail_and_the_outcome_of_writes_is_unknown(cluster: Cluster) -> None:
    store = EtcdStore(cluster.client)
    await store.replace(name="doc", body=b"1", expected=0)
    for member in cluster.members[1:]:
        await member.kill()
    with pytest.raises(errors.Unreachable):
        await store.read(name="doc")
    with pytest.raises((errors.OutcomeUnknown, errors.Unreachable)):
        await store.replace(name="doc", body=b"2", expected=1)
    for member in cluster.members[1:]:
        await member.start(cluster.members, state="existing")
    await cluster.leader()
    assert (await store.read(name="doc")).body in {b"1", b"2"}


async def test_reads_skip_a_hanging_member(cluster: Cluster) -> None:
    leader = await cluster.leader()
    hanging = next(m for m in cluster.members if m is not leader)
    client = Etcd([hanging.client_url, leader.client_url], deadline_s=1.0)
    store = EtcdStore(client)
    hanging.pause()
    try:
        assert (await store.read(name="doc")).revision == 0
        assert (
            await store.replace(name="doc", body=b"1", expected=0) == 1
        )  # the member that answered last is tried first
    finally:
        hanging.resume()
        await client.close()


async def test_a_watch_continues_after_its_member_is_killed(cluster: Cluster) -> None:
    store = EtcdStore(cluster.client)
    seen = store.watch(name="doc")
    async with asyncio.timeout(30):
        assert await anext(seen) == 0
        await store.replace(name="doc", body=b"1", expected=0)
        assert await anext(seen) == 1
        pending = asyncio.ensure_future(anext(seen))
        await cluster.members[0].kill()
        await cluster.leader()
        await store.replace(name="doc", body=b"2", expected=1)
        assert await pending == 2


async def test_a_watch_continues_after_its_member_stops_silently(cluster: Cluster) -> None:
    leader = await cluster.leader()
    hanging = next(m for m in cluster.members if m is not leader)
    others = [m.client_url for m in cluster.members if m is not hanging]
    client, elsewhere = Etcd([hanging.client_url, *others], deadline_s=3.0), Etcd(others, deadline_s=3.0)
    seen, writing = EtcdStore(client).watch(name="doc"), EtcdStore(elsewhere)
    try:
        async with asyncio.timeout(30):
            assert await anext(seen) == 0
            await writing.replace(name="doc", body=b"1", expected=0)
            assert await anext(seen) == 1
            hanging.pause()  # the connection stays open, and carries nothing
            await writing.replace(name="doc", body=b"2", expected=1)
            assert await anext(seen) == 2
            await writing.replace(name="doc", body=b"3", expected=2)
            assert await anext(seen) == 3
    finally:
        hanging.resume()
        await client.close()
        await elsewhere.close()


async def test_a_stream_that_a_stopped_member_never_answers_is_opened_at_another(cluster: Cluster) -> None:
    leader = await cluster.leader()
    hanging = next(m for m in cluster.members if m is not leader)
    client = Etcd([hanging.client_url, leader.client_url], deadline_s=1.0)
    request = {"create_request": {"key": "AA=="}}
    hanging.pause()
    try:
        with pytest.raises(errors.Unreachable, match="the stream of watch is silent"):
            await anext(client.stream("watch", request, silent_s=0.5))
        async with asyncio.timeout(30):
            assert "created" in await anext(client.stream("watch", request, silent_s=10.0))
    finally:
        hanging.resume()
        await client.close()


async def test_a_write_to_a_full_database_is_refused_with_a_remedy(cluster: Cluster) -> None:
    store = EtcdStore(cluster.client, keep={"doc": 100})

    async def fill() -> None:
        for number in range(20):
            await store.replace(name="doc", body=b"x" * BODY_BYTES_MAX, expected=number)

    with pytest.raises(errors.Refused, match=r"its database is full.*compact"):
        await fill()
    assert (await store.read(name="doc")).revision > 0


async def test_a_body_above_the_limit_of_etcd_is_refused_before_it_is_sent(cluster: Cluster) -> None:
    with pytest.raises(errors.Refused, match="the limit in etcd is"):
        await EtcdStore(cluster.client).replace(name="doc", body=b"x" * (BODY_BYTES_MAX + 1), expected=0)


async def test_endpoints_that_do_not_listen_are_reported_as_unreachable() -> None:
    client = Etcd(["http://127.0.0.1:1"], deadline_s=1.0)
    with pytest.raises(errors.Unreachable, match=r"^http://127.0.0.1:1: cannot connect: Connection refused$"):
        await EtcdStore(client).replace(name="doc", body=b"", expected=0)
    await client.close()
    client = Etcd(["http://127.0.0.1:1", "http://127.0.0.2:1"], deadline_s=1.0)
    with pytest.raises(errors.Unreachable, match=r"none of its 2 members could answer: http://127.0.0.1:1: .*0.2:1: "):
        await EtcdStore(client).read(name="doc")
    await client.close()
