"""The boot script of the etcd flavor, with real members: every row of the table in docs/flavor-etcd.md."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from infrakit.clients.etcd import Member
from infrakit.spi import errors
from tests.integration.etcd.members import needs_etcd
from tests.integration.flavor_etcd.machines import TIMEOUT_S, Machine, bootstrap, machines, until

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.timeout(180)]


async def has_leader(machine: Machine) -> bool:
    try:
        return (await machine.client.status()).leader != 0
    except errors.InfraKitError:
        return False


async def add(to: Machine, machine: Machine) -> Member:
    """Retry, because etcd adds a member only after all members have been connected for five seconds."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with contextlib.suppress(errors.Unreachable):
                return await to.client.add_member(f"http://{machine.address}:2380")
            await asyncio.sleep(0.1)


async def test_a_new_cluster_is_bootstrapped_and_restarts_with_its_data(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        first = await bootstrap([a, b, c])
        assert {m.name for m in first} == {a.address, b.address, c.address}
        assert len(await a.client.members()) == 3
        await a.write("k", "kept")
        await b.kill()
        await b.boot([a, b, c])
        assert (await b.wait_until_healthy()).id == first[1].id
        assert await b.read("k", local=True) == "kept"
        for each in (a, b, c):
            await each.kill()
        for each in (a, b, c):  # no member answers, and every member has data
            await each.boot([a, b, c])
        assert [(await each.wait_until_healthy()).id for each in (a, b, c)] == [m.id for m in first]
        assert await c.read("k") == "kept"


async def test_a_member_that_lost_its_data_is_removed_and_added_as_a_new_member(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        first = await bootstrap([a, b, c])
        await b.write("k", "kept")
        await a.kill()
        a.lose_volume()
        await a.boot([a, b, c])  # also the first declared member, which may bootstrap clusters
        now = await a.wait_until_healthy()
        assert now.id != first[0].id
        assert "is lost: removed it" in a.output
        assert await a.read("k", local=True) == "kept"
        assert {m.id for m in await b.client.members()} == {now.id, first[1].id, first[2].id}


async def test_losing_two_of_three_volumes_never_creates_a_second_cluster(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        first = await bootstrap([a, b, c])
        await a.write("k", "kept")
        for each in (a, b, c):
            await each.kill()
        old = a.lose_volume()
        b.lose_volume()
        await a.boot([a, b, c])
        await b.boot([a, b, c])
        await b.wait_for_output(f"reported to http://{a.address}:2380 that this member has no data")
        await a.wait_for_output(f"missing: {c.address}")
        await c.boot([a, b, c])  # it has the data, and no quorum
        await c.wait_for_output("starting etcd with the existing data")
        await c.kill()
        await c.boot([a, b, c])
        await c.wait_for_output("starting etcd with the existing data")
        assert not a.has_log
        assert not b.has_log
        assert not await has_leader(c)
        await a.kill()
        a.volume.rename(tmp_path / "empty")
        old.rename(a.volume)  # the operator restores one of the lost volumes
        await a.boot([a, b, c])
        assert (await a.wait_until_healthy()).id == first[0].id
        assert (await b.wait_until_healthy()).id != first[1].id
        assert await b.read("k", local=True) == "kept"


async def test_a_removed_member_rejoins_as_a_new_member(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        first = await bootstrap([a, b, c])
        await until((c.volume / "member" / "cluster").exists, "the ID of the cluster is on the volume")
        await c.kill()
        await a.client.remove_member(first[2].id)
        await a.write("k", "kept")
        await c.boot([a, b, c])  # its volume holds the data of the removed member
        assert (await c.wait_until_healthy()).id != first[2].id
        assert "no longer lists the member that owns this data: moving the data aside" in c.output
        assert list(c.volume.glob("member.removed.*/wal"))
        assert await c.read("k", local=True) == "kept"


async def test_data_of_another_cluster_is_never_moved_aside(tmp_path: Path) -> None:
    """A second cluster is bootstrapped at the address of a lost member: members with data do not join it."""
    async with machines(2, tmp_path) as (a, b):
        await bootstrap([a, b])
        await b.write("k", "kept")
        await until((b.volume / "member" / "cluster").exists, "the ID of the cluster is on the volume")
        for each in (a, b):
            await each.kill()
        a.lose_volume()
        await a.boot([a])  # declared as the only member
        await a.wait_until_healthy()
        await b.boot([a, b])
        await b.wait_for_output("so that neither is lost")
        assert b.has_log
        assert len(await a.client.members()) == 1
        (b.volume / "member").rename(tmp_path / "given-up")
        await b.wait_until_healthy()
        assert len(await a.client.members()) == 2


async def test_a_member_that_was_added_and_never_started_starts(tmp_path: Path) -> None:
    async with machines(2, tmp_path) as (a, b):
        await bootstrap([a])
        await a.client.add_member(f"http://{b.address}:2380")
        # Two members, one of them never started: there is no quorum until it starts, and no member answers.
        (b.volume / "member").mkdir(mode=0o700)
        (b.volume / "member" / "joining").write_text(
            f"{a.address}=http://{a.address}:2380,{b.address}=http://{b.address}:2380\n"
        )
        await b.boot([a, b])
        await b.wait_until_healthy()
        assert "this member may be the one missing from its quorum" in b.output
        assert len(await b.client.members()) == 2


async def test_a_member_that_was_added_externally_starts(tmp_path: Path) -> None:
    async with machines(4, tmp_path) as (a, b, c, d):
        await bootstrap([a, b, c])
        added = await add(a, d)
        await d.boot([a, b, c, d])
        assert (await d.wait_until_healthy()).id == added.id


async def test_machines_that_may_not_bootstrap_a_cluster_wait(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        await b.boot([a, b, c])
        await b.wait_for_output("does not collect members for a new one: waiting")
        await c.boot([c], Bootstrap="never")
        await c.wait_for_output("Bootstrap is never: waiting for one")
        await a.boot([a], DataDir=str(a.volume / "nowhere"))
        await a.wait_for_output("waiting for the volume")
        assert not any(each.has_log for each in (a, b, c))
        (a.volume / "nowhere").mkdir(mode=0o700)
        await a.wait_for_output("founding a cluster")
        await a.kill()


async def test_data_without_a_log_is_moved_aside_and_no_second_etcd_starts(tmp_path: Path) -> None:
    async with machines(2, tmp_path) as (a, b):
        (a.volume / "member" / "snap").mkdir(parents=True)
        await bootstrap([a])
        assert list(a.volume.glob("member.incomplete.*/snap"))
        twin = Machine(b.volume)
        twin.address = a.address
        await twin.boot([a])
        try:
            await twin.wait_for_output("another etcd answers at")
            assert not b.has_log
        finally:
            await twin.kill()


async def test_clusters_bootstrapped_at_the_same_addresses_have_different_ids(tmp_path: Path) -> None:
    async with machines(1, tmp_path) as (a,):
        await bootstrap([a])
        before = (await a.client.status()).cluster
        await a.kill()
        a.lose_volume()
        await bootstrap([a])
        assert (await a.client.status()).cluster != before


async def test_the_run_command_is_restarted_and_terminates_with_etcd(tmp_path: Path) -> None:
    async with machines(1, tmp_path) as (a,):
        runs = tmp_path / "runs"
        runs.mkdir()
        await bootstrap([a], Run=f"echo $$ >{runs}/$$; exec sleep 1000")
        await until(lambda: len(list(runs.iterdir())) == 1, "the command runs")
        (first,) = runs.iterdir()
        os.kill(int(first.name), 9)
        await until(lambda: len(list(runs.iterdir())) == 2, "the command is restarted")
        (second,) = set(runs.iterdir()) - {first}
        assert a.process is not None
        os.kill(a.process.pid, 9)  # etcd alone, whose process is that of the script
        await a.process.wait()
        await until(lambda: not Path(f"/proc/{second.name}").exists(), "the command has terminated with etcd")


async def test_a_terminated_boot_script_leaves_nothing_behind(tmp_path: Path) -> None:
    async with machines(2, tmp_path) as (a, b):
        await a.boot([a, b])
        await a.wait_for_output(f"missing: {b.address}")
        await until((a.volume / "lobby").exists, "it collects members")
        assert a.process is not None
        a.process.terminate()
        assert await a.process.wait() == 143
        assert list(a.volume.iterdir()) == []


async def test_a_bootstrap_interrupted_before_the_first_log_entry_starts_again(tmp_path: Path) -> None:
    """etcd creates its log first: restarted with an empty log, it would wait for a leader forever."""
    async with machines(1, tmp_path) as (a,):
        log = a.volume / "member" / "wal" / "0000000000000000-0000000000000000.wal"
        log.parent.mkdir(parents=True)
        log.write_bytes(bytes(4096))
        await a.boot([a])
        await a.wait_for_output("is unusable: moving it aside")
        await a.wait_until_healthy()
        [aside] = a.volume.glob("member.incomplete.*")
        assert (aside / "wal" / log.name).read_bytes() == bytes(4096), "nothing is deleted"


async def test_a_member_that_was_not_added_after_all_joins_when_the_cluster_answers(tmp_path: Path) -> None:
    """The answer to `member add` was lost, and another member was added instead: the quorum waits for that one."""
    async with machines(3, tmp_path) as (a, b, c):
        await bootstrap([a])
        await a.client.add_member(f"http://{b.address}:2380")
        for joining in (b, c):
            (joining.volume / "member").mkdir(mode=0o700)
            (joining.volume / "member" / "joining").write_text(
                f"{a.address}=http://{a.address}:2380,{joining.address}=http://{joining.address}:2380\n"
            )
        await c.boot([a, b, c])
        await c.wait_for_output("searching for a cluster again")
        await b.boot([a, b, c])
        await b.wait_until_healthy()
        await c.wait_until_healthy()
        assert len(await a.client.members()) == 3


async def test_a_member_that_tries_to_start_stops_at_once(tmp_path: Path) -> None:
    async with machines(3, tmp_path) as (a, b, c):
        await bootstrap([a])
        await a.client.add_member(f"http://{b.address}:2380")
        (b.volume / "member").mkdir(mode=0o700)
        (b.volume / "member" / "joining").write_text(
            f"{a.address}=http://{a.address}:2380,{b.address}=http://{b.address}:2380\n"
        )
        await b.boot([a, b, c])
        await b.wait_until_healthy()
        assert b.process is not None
        group = b.process.pid
        b.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(b.process.wait(), TIMEOUT_S)
        await until(lambda: not _group_exists(group), "no process is left")


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
