"""Leadership observed in a real Swarm."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from infrakit.clients.swarm import Swarm
from infrakit.leadership.swarm import VALID_S, SwarmObserved
from infrakit.spi.leadership import Observation
from tests.integration.swarm.engines import Engines, Node, needs_swarm, running

pytestmark = [needs_swarm, pytest.mark.slow, pytest.mark.timeout(400)]
DEADLINE_S = 120


@pytest.fixture
def engines() -> Iterator[Engines]:
    """Three managers; the first leads."""
    with running(3) as engines:
        yield engines


@pytest.fixture
async def observers(engines: Engines) -> AsyncIterator[list[SwarmObserved]]:
    """An observer beside each manager."""
    created = [SwarmObserved(Swarm(node.host)) for node in engines.nodes]
    yield created
    for each in created:
        await each.close()


async def until(observer: SwarmObserved, condition: Callable[[Observation], bool]) -> Observation:
    async with asyncio.timeout(DEADLINE_S):
        async for observation in observer.observe():
            if condition(observation):
                return observation
    raise AssertionError("the stream has ended")


async def test_every_manager_observes_the_leader(observers: list[SwarmObserved]) -> None:
    seen = [await until(each, lambda o: o.leader is not None) for each in observers]
    assert [each.leader for each in seen] == [True, False, False]
    assert {each.who for each in seen} == {"n1"}
    assert [each.note for each in seen[:2]] == ["the local Engine leads the Swarm", "the node n1 leads the Swarm"]
    assert seen[0].valid_s == VALID_S


async def test_failover_when_the_leader_is_killed(engines: Engines, observers: list[SwarmObserved]) -> None:
    engines.nodes[0].kill()
    first, second = await asyncio.gather(*(until(each, lambda o: o.who not in ("", "n1")) for each in observers[1:]))
    assert first.who == second.who
    assert {first.leader, second.leader} == {True, False}
    assert (await until(observers[0], lambda o: o.leader is not True)).leader is None
    engines.nodes[0].start()
    assert (await until(observers[0], lambda o: o.leader is not None)).leader is False


async def test_leadership_is_unknown_while_the_engine_is_suspended(
    engines: Engines, observers: list[SwarmObserved]
) -> None:
    follower = engines.nodes[1]
    await until(observers[1], lambda o: o.leader is False)
    follower.pause()
    assert "no answer within" in (await until(observers[1], lambda o: o.leader is None)).note
    follower.resume()
    await until(observers[1], lambda o: o.leader is False)


async def test_a_partitioned_leader_loses_its_leadership(engines: Engines, observers: list[SwarmObserved]) -> None:
    await until(observers[0], lambda o: o.leader is True)
    engines.nodes[0].cut()
    await until(observers[0], lambda o: o.leader is not True)
    await until(observers[1], lambda o: o.who not in ("", "n1"))
    engines.nodes[0].reconnect()
    assert (await until(observers[0], lambda o: o.leader is not None)).leader is False


async def test_a_node_that_is_not_a_manager_does_not_lead_and_reports_why() -> None:
    with running(3, joined=False) as engines:
        manager, worker, unjoined = engines.nodes
        manager.init()
        worker.join(manager, role="worker")
        for node in (worker, unjoined):
            seen = await first_observation(node)
            assert (seen.leader, seen.note) == (False, "this node is not a manager of a Swarm")
        manager.docker("node", "promote", "n2")
        observer = SwarmObserved(Swarm(worker.host))
        assert (await until(observer, lambda o: o.who == "n1")).leader is False
        await observer.close()


async def test_leadership_is_unknown_without_an_engine() -> None:
    observer = SwarmObserved(Swarm("unix:///nowhere/docker.sock"))
    seen = await until(observer, lambda _: True)
    assert (seen.leader, "cannot connect" in seen.note) == (None, True)
    await observer.close()


async def first_observation(node: Node) -> Observation:
    observer = SwarmObserved(Swarm(node.host))
    try:
        return await until(observer, lambda _: True)
    finally:
        await observer.close()
