"""Every row of the table in docs/flavor-etcd.md: what the boot script does with what it finds, with real members."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from infrakit.clients.etcd import Member
from infrakit.spi import errors
from tests.integration.etcd.members import needs_etcd
from tests.integration.flavor_etcd.machines import PATIENCE_S, Machine, found, machines, until

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.timeout(180)]


async def has_leader(machine: Machine) -> bool:
    try:
        return (await machine.client.status()).leader != 0
    except errors.InfraKitError:
        return False


async def add(to: Machine, machine: Machine) -> Member:
    """etcd adds nobody before everybody has been connected for five seconds."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(errors.Unreachable):
                return await to.client.add_member(f"http://{machine.address}:2380")
            await asyncio.sleep(0.1)


async def test_a_cluster_is_founded_from_nothing_and_returns_with_its_data(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        first = await found([a, b, c])
        assert {m.name for m in first} == {a.address, b.address, c.address}
        assert len(await a.client.members()) == 3
        await a.write("k", "kept")
        await b.kill()
        await b.boot([a, b, c])
        assert (await b.serves()).id == first[1].id
        assert await b.read("k", local=True) == "kept"
        for each in (a, b, c):
            await each.kill()
        for each in (a, b, c):  # nobody answers any more, and everybody has data
            await each.boot([a, b, c])
        assert [(await each.serves()).id for each in (a, b, c)] == [m.id for m in first]
        assert await c.read("k") == "kept"


async def test_a_member_without_data_is_removed_and_added_anew(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        first = await found([a, b, c])
        await b.write("k", "kept")
        await a.kill()
        a.lose_volume()
        await a.boot([a, b, c])  # also the first, which may found clusters
        now = await a.serves()
        assert now.id != first[0].id
        assert "is lost: removed it" in a.said
        assert await a.read("k", local=True) == "kept"
        assert {m.id for m in await b.client.members()} == {now.id, first[1].id, first[2].id}


async def test_two_lost_volumes_never_make_a_second_cluster_beside_the_third(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        first = await found([a, b, c])
        await a.write("k", "kept")
        for each in (a, b, c):
            await each.kill()
        old = a.lose_volume()
        b.lose_volume()
        await a.boot([a, b, c])
        await b.boot([a, b, c])
        await b.says(f"reported to http://{a.address}:2380 that this member has no data")
        await a.says(f"missing: {c.address}")
        await c.boot([a, b, c])  # it has the data, and no quorum
        await c.says("starting etcd with the existing data")
        await c.kill()
        await c.boot([a, b, c])
        await c.says("starting etcd with the existing data")
        assert not a.has_log
        assert not b.has_log
        assert not await has_leader(c)
        await a.kill()
        a.volume.rename(tmp_path / "empty")
        old.rename(a.volume)  # the operator finds one of the lost
        await a.boot([a, b, c])
        assert (await a.serves()).id == first[0].id
        assert (await b.serves()).id != first[1].id
        assert await b.read("k", local=True) == "kept"


async def test_a_member_that_was_removed_comes_back_as_a_new_one(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        first = await found([a, b, c])
        await until((c.volume / "member" / "cluster").exists, "it remembers its cluster")
        await c.kill()
        await a.client.remove_member(first[2].id)
        await a.write("k", "kept")
        await c.boot([a, b, c])  # its volume holds the data of the member that is gone
        assert (await c.serves()).id != first[2].id
        assert "no longer lists the member that owns this data: moving the data aside" in c.said
        assert list(c.volume.glob("member.removed.*/wal"))
        assert await c.read("k", local=True) == "kept"


async def test_data_of_another_cluster_is_never_given_up(tmp_path: Path) -> None:
    """Somebody founds a second cluster at the address of a lost member: those who hold the data stay away from it."""
    async with machines(2, tmp_path) as (a, b):
        await found([a, b])
        await b.write("k", "kept")
        await until((b.volume / "member" / "cluster").exists, "it remembers its cluster")
        for each in (a, b):
            await each.kill()
        a.lose_volume()
        await a.boot([a])  # told that it is the only one
        await a.serves()
        await b.boot([a, b])
        await b.says("so that neither is lost")
        assert b.has_log
        assert len(await a.client.members()) == 1
        (b.volume / "member").rename(tmp_path / "given-up")
        await b.serves()
        assert len(await a.client.members()) == 2


async def test_one_that_was_added_and_never_started_starts(tmp_path: Path) -> None:
    async with machines(2, tmp_path) as (a, b):
        await found([a])
        await a.client.add_member(f"http://{b.address}:2380")
        # Two members, one of them never started: there is no quorum until it does, and nobody to ask.
        (b.volume / "member").mkdir(mode=0o700)
        (b.volume / "member" / "joining").write_text(
            f"{a.address}=http://{a.address}:2380,{b.address}=http://{b.address}:2380\n"
        )
        await b.boot([a, b])
        await b.serves()
        assert "this member may be the one missing from its quorum" in b.said
        assert len(await b.client.members()) == 2


async def test_one_that_somebody_else_added_starts(tmp_path: Path) -> None:
    async with machines(4, tmp_path) as (a, b, c, d):
        await found([a, b, c])
        added = await add(a, d)
        await d.boot([a, b, c, d])
        assert (await d.serves()).id == added.id


async def test_whoever_may_not_found_a_cluster_waits(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        await b.boot([a, b, c])
        await b.says("does not collect members for a new one: waiting")
        await c.boot([c], Bootstrap="never")
        await c.says("Bootstrap is never: waiting for one")
        await a.boot([a], DataDir=str(a.volume / "nowhere"))
        await a.says("waiting for the volume")
        assert not any(each.has_log for each in (a, b, c))
        (a.volume / "nowhere").mkdir(mode=0o700)
        await a.says("founding a cluster")
        await a.kill()


async def test_what_has_no_log_is_put_aside_and_nobody_starts_twice(tmp_path: Path) -> None:
    async with machines(2, tmp_path) as (a, b):
        (a.volume / "member" / "snap").mkdir(parents=True)
        await found([a])
        assert list(a.volume.glob("member.incomplete.*/snap"))
        twin = Machine(b.volume)
        twin.address = a.address
        await twin.boot([a])
        try:
            await twin.says("another etcd answers at")
            assert not b.has_log
        finally:
            await twin.kill()


async def test_clusters_founded_at_the_same_addresses_are_never_the_same(tmp_path: Path) -> None:
    async with machines(1, tmp_path) as (a,):
        await found([a])
        before = (await a.client.status()).cluster
        await a.kill()
        a.lose_volume()
        await found([a])
        assert (await a.client.status()).cluster != before


async def test_what_runs_beside_starts_again_and_ends_with_etcd(tmp_path: Path) -> None:
    async with machines(1, tmp_path) as (a,):
        runs = tmp_path / "runs"
        runs.mkdir()
        await found([a], Run=f"echo $$ >{runs}/$$; exec sleep 1000")
        await until(lambda: len(list(runs.iterdir())) == 1, "it runs")
        (first,) = runs.iterdir()
        os.kill(int(first.name), 9)
        await until(lambda: len(list(runs.iterdir())) == 2, "it runs again")
        (second,) = set(runs.iterdir()) - {first}
        assert a.process is not None
        os.kill(a.process.pid, 9)  # etcd alone, whose process is that of the script
        await a.process.wait()
        await until(lambda: not Path(f"/proc/{second.name}").exists(), "it ended with etcd")


async def test_a_boot_that_is_told_to_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    async with machines(2, tmp_path) as (a, b):
        await a.boot([a, b])
        await a.says(f"missing: {b.address}")
        await until((a.volume / "lobby").exists, "it gathers members")
        assert a.process is not None
        a.process.terminate()
        assert await a.process.wait() == 143
        assert list(a.volume.iterdir()) == []


async def test_a_founding_that_was_cut_off_before_the_first_entry_begins_again(tmp_path: Path) -> None:
    """etcd makes its log first: started again with an empty one, it would wait for a leader for ever."""
    async with machines(1, tmp_path) as (a,):
        log = a.volume / "member" / "wal" / "0000000000000000-0000000000000000.wal"
        log.parent.mkdir(parents=True)
        log.write_bytes(bytes(4096))
        await a.boot([a])
        await a.says("is unusable: moving it aside")
        await a.serves()
        [aside] = a.volume.glob("member.incomplete.*")
        assert (aside / "wal" / log.name).read_bytes() == bytes(4096), "nothing is deleted"
