"""Three replicas beside the three members of a real etcd: they follow its leader, or campaign for a key in it."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.integration.etcd.members import needs_etcd, running
from tests.journeys.operator import Operator, cattle
from tests.journeys.replicas import InEtcd, acting

pytestmark = [needs_etcd, pytest.mark.slow]


async def test_the_replica_beside_the_leader_is_active_and_resigns_on_request(tmp_path: Path) -> None:
    async with running(3, tmp_path) as cluster:
        replicas = InEtcd(cluster)
        try:
            leader = await cluster.leader()
            await asyncio.to_thread(_follow_and_resign, replicas, leader.name)
            assert (await cluster.leader()).name != leader.name, "the leadership of etcd itself has moved"
            await asyncio.to_thread(_upgrade, replicas)
        finally:
            await asyncio.to_thread(replicas.close)


def _follow_and_resign(replicas: InEtcd, leader: str) -> None:
    replicas.start("m0", "m1", "m2")
    follower = replicas.operators[next(name for name in replicas.operators if name != leader)]
    assert acting(follower) == leader
    follower.commit(cattle("web", 2))
    instances = {m["ID"] for m in follower.ask("instance", "ls")}
    assert "Resigned" in follower("leader", "resign", "-m", "this host is rebooted")  # sent to any replica
    assert acting(follower, lambda name: bool(name) and name != leader)
    follower.converged()
    assert {m["ID"] for m in follower.ask("instance", "ls")} == instances
    assert "this host is rebooted" in replicas.operators[leader]("events")


def _upgrade(replicas: InEtcd) -> None:
    """Restart each replica in turn, as an upgrade does: another one is active meanwhile, and instances keep running."""
    instances = {m["ID"] for m in replicas.operators["m0"].ask("instance", "ls")}
    for size, (name, one) in enumerate(replicas.operators.items(), 3):
        other = next(o for n, o in replicas.operators.items() if n != name)
        assert one.end_daemon(signal.SIGTERM) == 0
        other("group", "scale", "web", str(size), "--wait=120s")
        assert name not in {r["Name"] for r in other.ask("leader")["Replicas"]}
        replicas.up(name)
    assert {m["ID"] for m in one.ask("instance", "ls")} > instances
    assert len(one.ask("instance", "ls")) == 5


async def test_the_leadership_moves_away_from_a_replica_that_hangs(tmp_path: Path) -> None:
    async with running(3, tmp_path) as cluster:
        replicas = InEtcd(cluster)
        try:
            leader = (await cluster.leader()).name
            await asyncio.to_thread(_hang, replicas, leader)
            assert (await cluster.leader()).name != leader, "the member beside it was healthy, and led until then"
        finally:
            await asyncio.to_thread(replicas.close)


def _hang(replicas: InEtcd, leader: str) -> None:
    replicas.start("m0", "m1", "m2")
    other = next(one for name, one in replicas.operators.items() if name != leader)
    assert acting(other) == leader
    other.commit(cattle("web", 2))
    first = {m["ID"] for m in other.ask("instance", "ls")}
    hung = replicas.operators[leader].daemon
    assert hung is not None
    hung.send_signal(signal.SIGSTOP)
    try:
        replicas.provider.kill(next(iter(first)))
        assert acting(other, lambda name: bool(name) and name != leader)
        other.until(lambda: len({m["ID"] for m in other.ask("instance", "ls")} - first) == 1, "it is replaced")
    finally:
        hung.send_signal(signal.SIGCONT)
    replicas.operators[leader].until(lambda: acting(replicas.operators[leader]) != leader, "it follows")


async def test_replicas_campaign_for_a_key(tmp_path: Path) -> None:
    async with running(3, tmp_path) as cluster:
        replicas = InEtcd(cluster, campaign=True)
        try:
            await asyncio.to_thread(_campaign, replicas)
        finally:
            await asyncio.to_thread(replicas.close)


def _campaign(replicas: InEtcd) -> None:
    replicas.start("m0", "m1", "m2")
    some = replicas.operators["m0"]
    leader = acting(some)
    some.commit(cattle("web", 2))
    assert replicas.operators[leader].end_daemon(signal.SIGKILL) == -signal.SIGKILL
    other = next(one for name, one in replicas.operators.items() if name != leader)
    assert acting(other, lambda name: bool(name) and name != leader)
    other.converged()


async def test_a_replica_that_starts_without_its_store_shows_the_last_halt(operator: Operator, tmp_path: Path) -> None:
    async with running(1, tmp_path) as cluster:
        (member,) = cluster.members
        leader = operator.home / "leader"
        await asyncio.to_thread(leader.write_text, "ann")
        operator.environment |= {
            "INFRAKIT_NAME": "ann",
            "INFRAKIT_STORE": f"etcd://{member.address}:2379/infrakit",
            "INFRAKIT_LEADERSHIP": f"file://{leader}",
        }
        await asyncio.to_thread(operator.up_supervised, "60s")
        await asyncio.to_thread(operator.commit, cattle("web", 1))
        await asyncio.to_thread(operator, "halt", "-m", "the wrong rack")
        kept = operator.home / "home" / "last-read.json"
        await asyncio.to_thread(operator.until, lambda: kept.exists() and b"wrong rack" in kept.read_bytes(), "kept")
        await asyncio.to_thread(operator.end_daemon, signal.SIGTERM)
        await member.kill()
        await asyncio.to_thread(operator.up_supervised, "60s")
        shown = await asyncio.to_thread(operator, "status", exits=2)
        assert "HALTED: everything, by ann at" in shown
        assert "the store was last read at" in shown
        assert len(operator.processes()) == 1
