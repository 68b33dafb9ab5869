"""Health, leadership and leaving, asked of real members that were started without us."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.flavors.etcd import EtcdFlavor
from infrakit.spi import errors
from infrakit.spi.values import TAG_GROUP, Allocation, Description, Health, HealthReport, InstanceID, LogicalID
from tests.integration.etcd.members import Cluster, Member, needs_etcd, running
from tests.integration.flavor_etcd.machines import PATIENCE_S

pytestmark = [needs_etcd, pytest.mark.timeout(120)]
NOTHING = msgspec.Raw(b"{}")


@contextlib.asynccontextmanager
async def a_cluster(count: int, directory: Path) -> AsyncIterator[tuple[EtcdFlavor, Cluster]]:
    flavor = EtcdFlavor()
    try:
        async with running(count, directory) as cluster:
            yield flavor, cluster
    finally:
        await flavor.close()


def instance(member: Member) -> Description:
    return Description(
        id=InstanceID(f"i-{member.address}"), logical_id=LogicalID(member.address), tags={TAG_GROUP: "db"}
    )


def declared(members: Sequence[Member]) -> Allocation:
    return Allocation(logical_ids=tuple(LogicalID(m.address) for m in members))


async def judged(flavor: EtcdFlavor, members: Sequence[Member], **properties: Any) -> list[HealthReport]:
    raw = msgspec.Raw(msgspec.json.encode(properties))
    reports = await flavor.healthy_all(properties=raw, instances=[instance(m) for m in members])
    return [reports[instance(m).id] for m in members]


async def judged_at_last(flavor: EtcdFlavor, cluster: Cluster, member: Member, health: Health) -> str:
    """etcd takes a moment to notice what has become of others."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            report = (await judged(flavor, cluster.members))[cluster.members.index(member)]
            if report.health is health:
                return report.note
            await asyncio.sleep(0.05)


async def test_members_are_judged_by_what_all_of_them_say(tmp_path: Path) -> None:
    async with a_cluster(3, tmp_path) as (flavor, cluster):
        leader = await cluster.leader()
        for member in cluster.members:
            note = await judged_at_last(flavor, cluster, member, Health.HEALTHY)
            assert note == ("leads" if member is leader else f"follows {leader.name}")
        a, b = (m for m in cluster.members if m is not leader)
        alone = await flavor.healthy(properties=NOTHING, instance=instance(a))
        assert alone.health is Health.HEALTHY
        a.pause()  # it is listed, connected, and says nothing
        assert "while 2 of the others have a leader" in await judged_at_last(flavor, cluster, a, Health.UNHEALTHY)
        a.resume()
        await judged_at_last(flavor, cluster, a, Health.HEALTHY)
        await a.kill()
        assert "etcd does not run" in await judged_at_last(flavor, cluster, a, Health.UNHEALTHY)
        assert f"{a.name} of the 3 members listed did not answer" in await judged_at_last(
            flavor, cluster, b, Health.HEALTHY
        )
        await leader.kill()  # the quorum is gone: the one that is left is not to blame
        assert "the cluster has no leader: 1 of 3 members answer" in await judged_at_last(
            flavor, cluster, b, Health.UNKNOWN
        )


async def test_leadership_moves_before_the_leader_goes(tmp_path: Path) -> None:
    async with a_cluster(3, tmp_path) as (flavor, cluster):
        leader = await cluster.leader()
        await flavor.drain(properties=NOTHING, instance=instance(leader))
        after = await cluster.leader()
        assert after is not leader
        await flavor.drain(properties=NOTHING, instance=instance(leader))  # it leads no more
        assert await cluster.leader() is after
        await leader.kill()
        await flavor.drain(properties=NOTHING, instance=instance(leader))  # nothing is left to move


async def test_one_that_is_not_declared_is_taken_off_the_list(tmp_path: Path) -> None:
    async with a_cluster(3, tmp_path) as (flavor, cluster):
        leader = await cluster.leader()
        rest = [m for m in cluster.members if m is not leader]
        await release_at_last(flavor, leader, rest)
        async with asyncio.timeout(PATIENCE_S):  # a member tells its own list, which may be a moment behind
            while {m.name for m in await rest[0].client.members()} != {m.name for m in rest}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await flavor.release(properties=NOTHING, instance=instance(leader), allocation=declared(rest))  # once more


async def release_at_last(flavor: EtcdFlavor, member: Member, rest: Sequence[Member]) -> None:
    """etcd refuses to reconfigure before everybody has been connected for five seconds."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(errors.Refused):
                return await flavor.release(properties=NOTHING, instance=instance(member), allocation=declared(rest))
            await asyncio.sleep(0.1)


async def test_nobody_goes_whom_the_quorum_cannot_spare(tmp_path: Path) -> None:
    async with a_cluster(3, tmp_path) as (flavor, cluster):
        a, b, c = cluster.members
        await cluster.leader()
        await flavor.release(properties=NOTHING, instance=instance(a), allocation=declared([a, b, c]))
        await c.kill()
        await cluster.leader()
        with pytest.raises(errors.Refused, match="1 of 3 members would be left healthy while it is away") as refused:
            await flavor.release(properties=NOTHING, instance=instance(a), allocation=declared([a, b, c]))
        assert f"not healthy: {c.name}" in str(refused.value)
        with pytest.raises(errors.Refused, match="1 of 2 members would be left healthy after its removal"):
            await flavor.release(properties=NOTHING, instance=instance(a), allocation=declared([b, c]))
        assert len(await a.client.members()) == 3
        await flavor.release(properties=NOTHING, instance=instance(c), allocation=declared([a, b, c]))  # it is dead
        await b.kill()
        with pytest.raises(errors.Refused, match="no member has a leader"):
            await flavor.release(properties=NOTHING, instance=instance(c), allocation=declared([a, b]))


async def test_the_last_member_and_that_of_another_cluster_stay(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    async with a_cluster(1, tmp_path / "1") as (flavor, one), a_cluster(1, tmp_path / "2") as (_, two):
        (a,), (b,) = one.members, two.members
        with pytest.raises(errors.Refused, match="the last member"):
            await flavor.release(properties=NOTHING, instance=instance(a), allocation=Allocation(logical_ids=()))
        with pytest.raises(errors.Refused, match="a member of another cluster"):
            await flavor.release(properties=NOTHING, instance=instance(b), allocation=declared([a]))
        reports = await judged(flavor, [a, b])
        assert [each.health for each in reports] == [Health.UNKNOWN] * 2
        assert all("form 2 clusters" in each.note for each in reports)
