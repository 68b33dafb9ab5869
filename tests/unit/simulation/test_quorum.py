"""The simulated quorum: the leader, stale leaders, and how the store treats a minority."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from infrakit.simulation.loops import Timeline
from infrakit.simulation.parts import FaultyStore
from infrakit.simulation.quorum import DECIDED_S_MAX, STALE_S_MAX, Member, Observer, Quorum
from infrakit.spi import errors
from infrakit.spi.leadership import Observation

T = TypeVar("T")
NODES = ("a", "b", "c")


class Ensemble:
    """A quorum, of three nodes by default, with its store and timeline."""

    def __init__(self, seed: int = 1, nodes: Sequence[str] = NODES) -> None:
        self.rng = random.Random(seed)
        self.timeline = Timeline()
        self.quorum = Quorum(self.timeline, nodes, self.rng, election_s=2.0)
        self.store = FaultyStore(self.rng)

    def member(self, node: str) -> Member:
        return Member(self.store, self.quorum, node, self.timeline.world, self.rng)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        task = self.timeline.world.create_task(work)
        self.timeline.run(task.done)
        return task.result()

    def until(self, condition: Callable[[], object]) -> None:
        self.timeline.run(condition)

    def wait_for_leader(self) -> str:
        self.until(lambda: self.quorum.leader)
        assert self.quorum.leader is not None
        return self.quorum.leader

    def wait(self, for_s: float) -> None:
        self.run(asyncio.sleep(for_s))


def test_an_election_takes_time() -> None:
    ensemble = Ensemble()
    assert ensemble.quorum.leader is None
    assert ensemble.wait_for_leader() in NODES
    assert 0.1 < ensemble.timeline.now < 2.0
    assert ensemble.quorum.term == 1


def test_a_leader_that_is_cut_off_is_replaced_and_claims_leadership_for_a_while() -> None:
    ensemble = Ensemble()
    first = ensemble.wait_for_leader()
    ensemble.quorum.partition([first])
    second = ensemble.wait_for_leader()
    assert second != first
    assert ensemble.quorum.leads(second)
    assert ensemble.quorum.claimants == sorted([first, second])
    ensemble.wait(STALE_S_MAX)
    assert ensemble.quorum.claimants == [second]
    ensemble.quorum.heal()
    assert ensemble.quorum.claimants == [second]


def test_half_of_the_nodes_are_no_majority() -> None:
    ensemble = Ensemble(nodes=("a", "b", "c", "d"))
    ensemble.wait_for_leader()
    ensemble.quorum.partition(["a", "b"])
    assert not any(ensemble.quorum.serves(node) for node in "abcd")
    ensemble.wait(60.0)
    assert ensemble.quorum.leader is None
    ensemble.quorum.partition(["a"])
    assert ensemble.wait_for_leader() in "bcd"


def test_without_a_majority_there_is_no_leader() -> None:
    ensemble = Ensemble()
    first = ensemble.wait_for_leader()
    ensemble.quorum.lose(first)
    second = ensemble.wait_for_leader()
    ensemble.quorum.lose(second)
    ensemble.wait(60.0)
    assert ensemble.quorum.leader is None
    ensemble.quorum.regain(first)
    assert ensemble.wait_for_leader() != second


def test_a_minority_can_neither_read_nor_be_sure_of_a_write() -> None:
    ensemble = Ensemble()
    ensemble.wait_for_leader()
    ensemble.quorum.partition(["a"])

    async def use(member: Member) -> tuple[set[type], set[type]]:
        reads, writes = set(), set()
        for _time in range(20):
            with pytest.raises(errors.InfraKitError) as read:
                await member.read(name="x")
            with pytest.raises(errors.InfraKitError) as write:
                await member.replace(name="x", body=b"1", expected=0)
            reads.add(read.type)
            writes.add(write.type)
        return reads, writes

    assert ensemble.run(use(ensemble.member("a"))) == (
        {errors.Unreachable},
        {errors.Unreachable, errors.OutcomeUnknown},
    )
    assert ensemble.run(ensemble.member("b").read(name="x")).revision == 0


def write_of_a_minority(seed: int) -> tuple[bool, int]:
    """Write from a minority that soon rejoins; return whether the write failed, and the final revision in the store."""
    ensemble = Ensemble(seed)
    ensemble.wait_for_leader()
    ensemble.quorum.partition(["a"])
    ensemble.timeline.world.call_later(1.0, ensemble.quorum.heal)

    async def write() -> bool:
        try:
            await ensemble.member("a").replace(name="x", body=b"1", expected=0)
        except errors.Unreachable:
            return True
        except errors.OutcomeUnknown:
            pass
        return False

    failed = ensemble.run(write())
    ensemble.wait(DECIDED_S_MAX)
    return failed, ensemble.run(ensemble.member("b").read(name="x")).revision


def test_a_write_may_be_decided_after_its_caller_has_given_up() -> None:
    outcomes = {write_of_a_minority(seed) for seed in range(30)}
    assert outcomes == {(True, 0), (False, 0), (False, 1)}


def test_an_observation_reports_the_start_of_the_poll_by_the_clock_of_its_process() -> None:
    ensemble = Ensemble()
    leader = ensemble.wait_for_leader()
    loop = ensemble.timeline.loop(rate=0.98, offset_s=100.0)
    observer = Observer(ensemble.quorum, leader, ensemble.rng, valid_s=2.0)
    seen: list[tuple[float, Observation]] = []

    async def follow() -> None:
        async for observation in observer.observe():
            seen.append((loop.time(), observation))  # noqa: PERF401 - the iterator is infinite

    loop.create_task(follow())
    began = ensemble.timeline.now
    ensemble.wait(20.0)
    assert len(seen) > 20
    assert all(o.leader and 0.0 < at - o.begun_at <= 1.0 for at, o in seen)
    assert loop.true_time(seen[0][1].begun_at) == pytest.approx(began)
    loop.stall()
    count = len(seen)
    ensemble.wait(20.0)
    loop.resume()
    ensemble.until(lambda: len(seen) > count)
    at, stale = seen[count]
    assert at - stale.begun_at > 15.0  # begun_at is before the stall
    observer.blind = True
    ensemble.wait(3.0)
    assert seen[-1][1].leader is None
    ensemble.timeline.close()
