"""Leadership in a real etcd: observing the leader of the cluster, and campaigning for a key."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from infrakit.clients.etcd import Etcd, encode
from infrakit.leadership.etcd import EtcdCampaign, EtcdObserved
from infrakit.spi import errors
from infrakit.spi.leadership import Observation
from tests.integration.etcd.members import Cluster, Member, needs_etcd, running

pytestmark = needs_etcd
KEY = "/infrakit/leader"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(3, tmp_path) as cluster:
        yield cluster


async def until(stream: AsyncIterator[Observation], condition: Callable[[Observation], bool]) -> Observation:
    async with asyncio.timeout(30):
        async for observation in stream:
            if condition(observation):
                return observation
    raise AssertionError("the stream has ended")


async def leader_and_follower(cluster: Cluster) -> tuple[Member, Member]:
    leader = await cluster.leader()
    return leader, next(m for m in cluster.members if m is not leader)


async def test_every_member_observes_the_leader(cluster: Cluster) -> None:
    leader, follower = await leader_and_follower(cluster)
    own = await until(EtcdObserved(leader.client).observe(), lambda o: o.leader is True)
    assert own.who == leader.name
    seen = await until(EtcdObserved(follower.client).observe(), lambda o: o.leader is False)
    assert seen.who == leader.name


async def test_failover_when_the_leader_is_killed(cluster: Cluster) -> None:
    leader, follower = await leader_and_follower(cluster)
    third = next(m for m in cluster.members if m not in (leader, follower))
    one, two = EtcdObserved(follower.client).observe(), EtcdObserved(third.client).observe()
    await leader.kill()
    first = await until(one, lambda o: o.who not in ("", leader.name))
    second = await until(two, lambda o: o.who not in ("", leader.name))
    assert first.who == second.who
    assert {first.leader, second.leader} == {True, False}


async def test_a_follower_takes_the_leadership_from_a_named_leader_only(cluster: Cluster) -> None:
    leader, follower = await leader_and_follower(cluster)
    third = next(m for m in cluster.members if m not in (leader, follower))
    await EtcdObserved(leader.client).take_over(leader=leader.name)  # it leads already
    await EtcdObserved(follower.client).take_over(leader=third.name)  # that one does not lead
    assert await cluster.leader() is leader
    await EtcdObserved(follower.client).take_over(leader=leader.name)
    own = await until(EtcdObserved(follower.client).observe(), lambda o: o.leader is True)
    assert own.who == follower.name


async def test_leadership_is_unknown_while_the_member_does_not_respond(cluster: Cluster) -> None:
    leader, _ = await leader_and_follower(cluster)
    stream = EtcdObserved(leader.client).observe()
    await until(stream, lambda o: o.leader is True)
    leader.pause()
    unknown = await until(stream, lambda o: o.leader is None)
    assert "answer" in unknown.note
    leader.resume()
    await until(stream, lambda o: o.leader is not None)


async def test_without_a_quorum_there_is_no_leader(cluster: Cluster) -> None:
    leader, _ = await leader_and_follower(cluster)
    for member in cluster.members:
        if member is not leader:
            await member.kill()
    await until(EtcdObserved(leader.client).observe(), lambda o: o.leader is False)


async def test_resigning_transfers_the_leadership_of_the_cluster(cluster: Cluster) -> None:
    leader, follower = await leader_and_follower(cluster)
    await EtcdObserved(follower.client).resign()  # a follower has no leadership to transfer
    assert await cluster.leader() is leader
    await EtcdObserved(leader.client).resign()
    await until(EtcdObserved(leader.client).observe(), lambda o: o.leader is False and o.who != leader.name)


async def test_a_leader_without_responding_followers_cannot_resign(cluster: Cluster) -> None:
    leader, _ = await leader_and_follower(cluster)
    for member in cluster.members:
        if member is not leader:
            member.pause()
    try:
        with pytest.raises(errors.InfraKitError):
            await EtcdObserved(leader.client).resign()
    finally:
        for member in cluster.members:
            if member is not leader:
                member.resume()


# -- a campaign --------------------------------------------------------------------------------------------------------


class Candidate:
    """Observes its own campaign in the background."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.campaign = EtcdCampaign(cluster.client, KEY, name, ttl_s=2)
        self.last = Observation(leader=None, begun_at=0.0, valid_s=0.0)
        self.changed = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        async for observation in self.campaign.observe():
            self.last = observation
            self.changed.set()

    async def until(self, condition: Callable[[Observation], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition(self.last):
                self.changed.clear()
                await self.changed.wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


@pytest.fixture
async def candidates(cluster: Cluster) -> AsyncIterator[tuple[Candidate, Candidate]]:
    one = Candidate(cluster, "one")
    await one.until(lambda o: o.leader is True)
    two = Candidate(cluster, "two")
    await two.until(lambda o: o.leader is False)
    yield one, two
    await one.stop()
    await two.stop()


async def test_one_of_two_candidates_leads_and_the_other_reports_its_name(
    candidates: tuple[Candidate, Candidate],
) -> None:
    one, two = candidates
    assert (one.last.leader, two.last.leader, two.last.who) == (True, False, "one")
    assert one.last.valid_s == 2.0


async def test_failover_when_the_lease_of_the_leading_candidate_expires(
    candidates: tuple[Candidate, Candidate],
) -> None:
    one, two = candidates
    await one.stop()  # like kill -9: the lease expires
    await two.until(lambda o: o.leader is True)


async def test_a_candidate_keeps_leading_when_the_member_that_it_uses_stops_silently(cluster: Cluster) -> None:
    leader, hanging = await leader_and_follower(cluster)
    client = Etcd([hanging.client_url, leader.client_url], deadline_s=3.0)
    stream = EtcdCampaign(client, KEY, "one").observe()
    await until(stream, lambda o: o.leader is True)
    hanging.pause()
    try:
        for _renewal in range(4):
            assert (await anext(stream)).leader is True
    finally:
        hanging.resume()
        await client.close()


async def test_the_other_candidate_leads_after_a_resignation(candidates: tuple[Candidate, Candidate]) -> None:
    one, two = candidates
    await one.campaign.resign()
    await two.until(lambda o: o.leader is True)
    await one.until(lambda o: o.leader is False and o.who == "two")
    await one.campaign.resign()  # not the leader: no effect
    await two.campaign.resign()
    await one.until(lambda o: o.leader is True)


async def test_deleting_the_key_ends_the_leadership(cluster: Cluster, candidates: tuple[Candidate, Candidate]) -> None:
    one, _ = candidates
    await cluster.client.change("kv/deleterange", {"key": encode(KEY)})
    await one.until(lambda o: o.leader is False)


async def test_without_a_quorum_a_candidate_stops_leading(
    cluster: Cluster, candidates: tuple[Candidate, Candidate]
) -> None:
    one, _ = candidates
    for member in cluster.members[1:]:
        await member.kill()
    await one.until(lambda o: o.leader is not True)
