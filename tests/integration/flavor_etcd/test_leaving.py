"""Health, transfer of leadership and removal, with real members that the flavor did not start."""

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
from tests.integration.flavor_etcd.machines import TIMEOUT_S

pytestmark = [needs_etcd, pytest.mark.timeout(120)]
NO_PROPERTIES = msgspec.Raw(b"{}")


@contextlib.asynccontextmanager
async def flavor_and_cluster(count: int, directory: Path) -> AsyncIterator[tuple[EtcdFlavor, Cluster]]:
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


async def health_of(flavor: EtcdFlavor, members: Sequence[Member], **properties: Any) -> list[HealthReport]:
    raw = msgspec.Raw(msgspec.json.encode(properties))
    reports = await flavor.healthy_all(properties=raw, instances=[instance(m) for m in members])
    return [reports[instance(m).id] for m in members]


async def wait_for_health(flavor: EtcdFlavor, cluster: Cluster, member: Member, health: Health) -> str:
    """Wait for a verdict, because etcd notices failures of other members with a delay; return its note."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            report = (await health_of(flavor, cluster.members))[cluster.members.index(member)]
            if report.health is health:
                return report.note
            await asyncio.sleep(0.05)


async def test_health_is_judged_by_the_answers_of_all_members(tmp_path: Path) -> None:
    async with flavor_and_cluster(3, tmp_path) as (flavor, cluster):
        leader = await cluster.leader()
        for member in cluster.members:
            note = await wait_for_health(flavor, cluster, member, Health.HEALTHY)
            assert note == ("leads" if member is leader else f"follows {leader.name}")
        a, b = (m for m in cluster.members if m is not leader)
        alone = await flavor.healthy(properties=NO_PROPERTIES, instance=instance(a))
        assert alone.health is Health.HEALTHY
        a.pause()  # listed and connected, but not responding
        assert "while 2 of the others have a leader" in await wait_for_health(flavor, cluster, a, Health.UNHEALTHY)
        a.resume()
        await wait_for_health(flavor, cluster, a, Health.HEALTHY)
        await a.kill()
        assert "etcd does not run" in await wait_for_health(flavor, cluster, a, Health.UNHEALTHY)
        assert f"{a.name} of the 3 members listed did not answer" in await wait_for_health(
            flavor, cluster, b, Health.HEALTHY
        )
        await leader.kill()  # the quorum is lost: the remaining member is not at fault
        assert "the cluster has no leader: 1 of 3 members answer" in await wait_for_health(
            flavor, cluster, b, Health.UNKNOWN
        )


async def test_drain_transfers_leadership_before_the_leader_terminates(tmp_path: Path) -> None:
    async with flavor_and_cluster(3, tmp_path) as (flavor, cluster):
        leader = await cluster.leader()
        await flavor.drain(properties=NO_PROPERTIES, instance=instance(leader))
        after = await cluster.leader()
        assert after is not leader
        await flavor.drain(properties=NO_PROPERTIES, instance=instance(leader))  # no longer the leader
        assert await cluster.leader() is after
        await leader.kill()
        await flavor.drain(
            properties=NO_PROPERTIES, instance=instance(leader)
        )  # not running: no leadership to transfer


async def test_an_undeclared_member_is_removed_from_the_member_list(tmp_path: Path) -> None:
    async with flavor_and_cluster(3, tmp_path) as (flavor, cluster):
        leader = await cluster.leader()
        rest = [m for m in cluster.members if m is not leader]
        await release_with_retries(flavor, leader, rest)
        async with asyncio.timeout(TIMEOUT_S):  # a member reports its own list, which may lag
            while {m.name for m in await rest[0].client.members()} != {m.name for m in rest}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await flavor.release(
            properties=NO_PROPERTIES, instance=instance(leader), allocation=declared(rest)
        )  # repeated: no effect


async def release_with_retries(flavor: EtcdFlavor, member: Member, rest: Sequence[Member]) -> None:
    """Retry, because etcd reconfigures only after all members have been connected for five seconds."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with contextlib.suppress(errors.Refused):
                return await flavor.release(
                    properties=NO_PROPERTIES, instance=instance(member), allocation=declared(rest)
                )
            await asyncio.sleep(0.1)


async def test_release_is_refused_if_the_quorum_needs_the_member(tmp_path: Path) -> None:
    async with flavor_and_cluster(3, tmp_path) as (flavor, cluster):
        a, b, c = cluster.members
        await cluster.leader()
        await flavor.release(properties=NO_PROPERTIES, instance=instance(a), allocation=declared([a, b, c]))
        await c.kill()
        await cluster.leader()
        with pytest.raises(errors.Refused, match="1 of 3 members would be left healthy while it is absent") as refused:
            await flavor.release(properties=NO_PROPERTIES, instance=instance(a), allocation=declared([a, b, c]))
        assert f"not healthy: {c.name}" in str(refused.value)
        with pytest.raises(errors.Refused, match="1 of 2 members would be left healthy after its removal"):
            await flavor.release(properties=NO_PROPERTIES, instance=instance(a), allocation=declared([b, c]))
        assert len(await a.client.members()) == 3
        await flavor.release(
            properties=NO_PROPERTIES, instance=instance(c), allocation=declared([a, b, c])
        )  # it has terminated
        await b.kill()
        with pytest.raises(errors.Refused, match="no member has a leader"):
            await flavor.release(properties=NO_PROPERTIES, instance=instance(c), allocation=declared([a, b]))


async def test_release_is_refused_for_the_last_member_and_for_one_of_another_cluster(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    async with (
        flavor_and_cluster(1, tmp_path / "1") as (flavor, one),
        flavor_and_cluster(1, tmp_path / "2") as (_, two),
    ):
        (a,), (b,) = one.members, two.members
        with pytest.raises(errors.Refused, match="the last member"):
            await flavor.release(properties=NO_PROPERTIES, instance=instance(a), allocation=Allocation(logical_ids=()))
        with pytest.raises(errors.Refused, match="a member of another cluster"):
            await flavor.release(properties=NO_PROPERTIES, instance=instance(b), allocation=declared([a]))
        reports = await health_of(flavor, [a, b])
        assert [each.health for each in reports] == [Health.UNKNOWN] * 2
        assert all("form 2 clusters" in each.note for each in reports)
