"""The fence: no call of an older epoch begins once a newer one acts, and what was under way is settled first."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from infrakit.instances.simulator import Spread
from infrakit.manager.lead.fence import BOUND_S, DRIFT
from infrakit.manager.lead.ledger import NAME, UNPROVEN_S_MAX, EpochLedger
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.simulation.loop import VirtualClock
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.leadership import Observation
from infrakit.spi.store import Document
from infrakit.spi.values import GroupID, InstanceID, InstanceSpec, Slot
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets

G = GroupID("g")


def now() -> float:
    return asyncio.get_running_loop().time()


class Slow(MemoryStore):
    """Takes its time for each read."""

    read_s = 0.0
    reads = 0

    async def read(self, *, name: str) -> Document:
        self.reads += 1
        document = await super().read(name=name)
        await asyncio.sleep(self.read_s)
        return document


async def opened(
    store: MemoryStore, owner: str = "one", leads_until: Callable[[], float] = lambda: math.inf
) -> EpochLedger:
    ledger = EpochLedger(
        store,
        owner=owner,
        clock=VirtualClock(),
        random=random.Random(owner),
        leads_until=leads_until,
        watermark=WatermarkGuard(),
    )
    await ledger.open()
    return ledger


@in_virtual_time
async def test_a_proof_wears_off() -> None:
    ledger = await opened(MemoryStore())
    await ledger.prove()
    ledger.check()
    await asyncio.sleep(BOUND_S * 1.01)
    with pytest.raises(errors.NotLeader, match="not proven for"):
        ledger.check()
    await ledger.prove()
    ledger.check()


@in_virtual_time
async def test_one_proof_serves_all_who_wait_for_it() -> None:
    store = Slow()
    ledger = await opened(store)
    await asyncio.sleep(1.0)
    store.read_s, store.reads = BOUND_S / 10, 0
    await asyncio.gather(*(ledger.prove() for _ in range(100)))
    assert store.reads == 1


@in_virtual_time
async def test_the_successor_waits_until_no_proof_of_its_predecessor_is_worth_anything() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.prove()
    proven_at = now()
    second = await opened(store, "two")
    with pytest.raises(errors.NotLeader):
        second.check()
    await second.prove()
    assert now() >= proven_at + BOUND_S * DRIFT
    second.check()
    with pytest.raises(errors.NotLeader):
        first.check()
    with pytest.raises(errors.NotLeader, match="two holds epoch 2"):
        await first.prove()


@in_virtual_time
async def test_nobody_waits_for_a_predecessor_that_has_closed_its_epoch() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    first.resign("enough")
    await first.close()
    second = await opened(store, "two")
    await second.prove()
    second.check()
    assert now() == 0.0
    await first.close()  # too late: it says nothing of its successor
    assert not (await second.peek()).closed


@in_virtual_time
async def test_a_slow_store_gets_a_longer_bound_which_is_recorded_before_it_is_used() -> None:
    store = Slow()
    first = await opened(store, "one")
    await asyncio.sleep(1.0)
    store.read_s = 0.5
    await first.prove()
    first.check()
    assert (await first.peek()).bound_s == pytest.approx(2.0)
    store.read_s = 0.0
    await first.prove()
    proven_at = now()
    second = await opened(store, "two")
    await second.prove()
    assert now() - proven_at >= 2.0
    with pytest.raises(errors.NotLeader):
        first.check()


@in_virtual_time
async def test_a_store_that_is_too_slow_proves_nothing() -> None:
    store = Slow()
    ledger = await opened(store)
    await asyncio.sleep(1.0)
    store.read_s = 3.0
    with pytest.raises(errors.NotLeader, match="too long to prove"):
        await ledger.prove()


@in_virtual_time
async def test_a_process_that_slept_between_its_proof_and_its_call_may_not_make_it() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.prove()
    second = await opened(store, "two")
    await second.prove()
    second.check()  # it begins a call now
    with pytest.raises(errors.NotLeader):
        first.check()


@in_virtual_time
async def test_nobody_may_act_whose_observation_has_expired() -> None:
    ledger = await opened(MemoryStore(), leads_until=lambda: 5.0)
    held = asyncio.get_running_loop().create_task(ledger.guard_leadership())
    await asyncio.sleep(4.9)
    await ledger.prove()
    ledger.check()
    assert not held.done()
    await asyncio.sleep(0.1)
    with pytest.raises(errors.NotLeader, match="leadership observation has expired"):
        ledger.check()
    with pytest.raises(errors.NotLeader, match="leadership observation has expired"):
        await held


@in_virtual_time
async def test_a_replica_that_cannot_prove_its_epoch_for_long_gives_it_up() -> None:
    class Away(MemoryStore):
        away = False

        async def read(self, *, name: str) -> Document:
            if self.away:
                raise errors.Unreachable("connection refused")
            return await super().read(name=name)

    store = Away()
    ledger = await opened(store)
    looking = asyncio.get_running_loop().create_task(ledger.poll_epoch())
    await asyncio.sleep(60.0)
    assert not looking.done()
    store.away = True
    with pytest.raises(errors.NotLeader, match="could not be proven for"):
        await looking
    assert now() < 60.0 + UNPROVEN_S_MAX + 10.0


@in_virtual_time
async def test_the_loss_of_the_epoch_is_noticed_at_once() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    noticing = asyncio.get_running_loop().create_task(first.watch_epoch())
    await asyncio.sleep(0.5)
    await opened(store, "two")
    with pytest.raises(errors.NotLeader, match="two holds epoch 2"):
        await noticing
    assert now() == 0.5


@in_virtual_time
async def test_a_store_that_went_back_is_not_believed() -> None:
    class Restored(MemoryStore):
        def forget(self) -> None:
            del self._revisions[NAME][-1]

    store = Restored()
    ledger = await opened(store)
    await ledger.record(G, wanted={Slot("1"): "v"}, settled=[])
    store.forget()
    await asyncio.sleep(1.0)
    with pytest.raises(errors.NotLeader, match="went back"):
        await ledger.prove()


@in_virtual_time
async def test_destructions_under_way_are_found_by_the_successor() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.record(G, wanted={}, settled=[], ending=[InstanceID("b"), InstanceID("a")])
    await first.record(G, wanted={Slot("1"): "v"}, settled=[])  # says nothing about them
    assert tuple((await opened(store, "two")).ending(G)) == ("a", "b")


@in_virtual_time
async def test_what_was_recorded_and_not_begun_is_withdrawn_at_the_end() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.record(
        G, wanted={Slot("1"): "v", Slot("2"): "v"}, settled=[], ending=[InstanceID("a"), InstanceID("b")]
    )
    first.withdraw(G, slots=[Slot("1")], ending=[InstanceID("b")])
    assert set(first.intents(G)) == {"1", "2"}  # they count until then
    first.resign("enough")
    await first.close()
    second = await opened(store, "two")
    assert set(second.intents(G)) == {"2"}
    assert tuple(second.ending(G)) == ("a",)


@in_virtual_time
async def test_what_a_predecessor_recorded_is_withdrawn_by_nobody_else() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.record(G, wanted={Slot("1"): "v"}, settled=[], ending=[InstanceID("a")])
    second = await opened(store, "two")
    first.withdraw(G, slots=[Slot("1")], ending=[InstanceID("a")])
    await first.close()
    assert set((await second.peek()).intents[G]) == {"1"}


# -- two replicas ------------------------------------------------------------------------------------------------------


class Told:
    """Leads as it is told."""

    def __init__(self, *, leader: bool) -> None:
        self.leader: bool | None = leader
        self.changed = asyncio.Event()

    def tell(self, *, leader: bool | None) -> None:
        self.leader = leader
        self.changed.set()

    async def observe(self) -> AsyncIterator[Observation]:
        while True:
            self.changed.clear()
            yield Observation(leader=self.leader, begun_at=now(), valid_s=2.0)
            try:
                async with asyncio.timeout(0.5):
                    await self.changed.wait()
            except TimeoutError:
                pass


def two(first: Stage) -> tuple[Stage, Told]:
    """A second replica beside that of the stage, with the same store and provider."""
    leads = Told(leader=False)
    return Stage(store=first.store, simulator=first.simulator, leadership=leads), leads


@in_virtual_time
async def test_leadership_moves_and_nothing_is_made_twice() -> None:
    told = Told(leader=True)
    async with Stage(leadership=told) as one:
        second, other = two(one)
        async with second:
            await one.commit(pets("db", "a b c"))
            await one.converged()
            told.tell(leader=False)
            other.tell(leader=True)
            await second.replica.active.wait()
            await second.converged()
            assert not one.replica.active.is_set()
            assert len(one.simulator.live()) == 3
            assert second.replica.term is not None
            assert second.replica.term.ledger.epoch == 2


@in_virtual_time
async def test_silence_of_the_observer_ends_the_term_when_the_last_answer_has_expired() -> None:
    told = Told(leader=True)
    async with Stage(leadership=told) as one:
        await one.commit(cattle("web", 2))
        await one.converged()
        told.tell(leader=None)
        await asyncio.sleep(1.5)
        assert one.replica.active.is_set()
        await asyncio.sleep(1.0)
        assert not one.replica.active.is_set()
        assert any(e.type is Kind.STOPPED and "leadership observation has expired" in e.message for e in one.events)
        told.tell(leader=True)
        await one.converged()


@in_virtual_time
@pytest.mark.parametrize("answer", [False, None], ids=["another leads", "silence"])
async def test_no_call_outlives_leadership_and_each_is_told_with_what_is_known_of_it(answer: bool | None) -> None:
    told = Told(leader=True)
    async with Stage(leadership=told) as one:
        await one.commit(cattle("web", 3))
        await one.converged()
        one.fault(provision=Spread(low=20.0, high=20.0), destroy=Spread(low=20.0, high=20.0))
        victim = next(iter(one.alive("web").values())).id
        await one.operator.destroy_instance(instance=victim, who="ann", why="a test", replace=True)
        await one.until(lambda: one.messages(Kind.DESTROYING))
        await one.scale("web", 5)
        await one.until(lambda: len(one.messages(Kind.CREATING)) == 5)
        one.events.clear()
        told.tell(leader=answer)
        believed_until = now() if answer is False else one.replica.leads_until
        await one.until(lambda: one.replica.term is None)
        assert now() <= believed_until + 0.1
        outcomes = [(e.type, e.instance) for e in one.events if "outcome unknown (call cancelled)" in e.message]
        assert sorted(outcomes, key=str) == [
            (Kind.CREATE_UNKNOWN, None),
            (Kind.CREATE_UNKNOWN, None),
            (Kind.DESTROY_FAILED, victim),
        ]


@in_virtual_time
async def test_a_creation_that_was_not_asked_for_when_leadership_is_lost_is_known_to_have_made_nothing() -> None:
    class Endless(SimulatedFlavor):
        """Never done preparing."""

        async def prepare(self, **_: Any) -> InstanceSpec:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    told = Told(leader=True)
    async with Stage(leadership=told, flavor_class=Endless) as one:
        await one.commit(cattle("web", 1))
        await one.until(lambda: one.messages(Kind.CREATING))
        told.tell(leader=False)
        await one.until(lambda: one.replica.term is None, within_s=1.0)
        assert one.messages(Kind.CREATE_FAILED) == ["cancelled before the provider was called: nothing was created"]
        assert (await one.replica.peek()).intents == {}


@in_virtual_time
async def test_an_observer_that_fails_is_asked_again() -> None:
    class Failing(Told):
        broken = False

        async def observe(self) -> AsyncIterator[Observation]:
            async for observation in super().observe():
                if self.broken:
                    self.broken = False
                    raise errors.Unreachable("connection refused")
                yield observation

    told = Failing(leader=True)
    async with Stage(leadership=told) as one:
        await one.commit(cattle("web", 2))
        await one.converged()
        told.broken = True
        await asyncio.sleep(5.0)
        assert one.replica.active.is_set()
        assert any("cannot be observed" in e.message for e in one.events)


@in_virtual_time
async def test_what_the_predecessor_was_ending_is_not_counted_on() -> None:
    """A rolling update of a quorum: while the fate of one member is open, no other is taken."""
    told = Told(leader=True)
    async with Stage(leadership=told) as one:
        await one.commit(pets("db", "a b c", quorum=True))
        await one.converged()
        assert one.replica.term is not None
        victim = next(m.id for m in one.simulator.live() if m.logical_id == "b")
        await one.replica.term.ledger.record(GroupID("db"), wanted={}, settled=[], ending=[victim])
        second, other = two(one)
        async with second:
            told.tell(leader=False)
            other.tell(leader=True)
            await second.replica.active.wait()
            await second.commit(pets("db", "a b c", quorum=True, version=1))
            await asyncio.sleep(60.0)
            assert {m.id for m in second.simulator.live()} == {m.id for m in one.simulator.live()}
            assert len(second.simulator.machines) == 3  # nobody else was taken
            second.simulator.kill(victim)  # now the call of the predecessor is carried out
            await second.converged()


@in_virtual_time
async def test_what_outlives_its_end_by_a_predecessor_is_managed_again() -> None:
    told = Told(leader=True)
    async with Stage(leadership=told) as one:
        await one.commit(pets("db", "a b c", quorum=True))
        await one.converged()
        assert one.replica.term is not None
        victim = next(m.id for m in one.simulator.live() if m.logical_id == "b")
        await one.replica.term.ledger.record(GroupID("db"), wanted={}, settled=[], ending=[victim])
        second, other = two(one)
        async with second:
            told.tell(leader=False)
            other.tell(leader=True)
            await second.replica.active.wait()
            await asyncio.sleep(10.0)
            assert not (await second.status("db")).converged
            await second.converged()
            assert second.replica.term is not None
            await asyncio.sleep(10.0)
            assert not second.replica.term.ledger.ending(GroupID("db"))


@in_virtual_time
async def test_a_replica_without_a_source_that_can_be_asked_does_not_resign() -> None:
    async with Stage() as one:
        await one.replica.active.wait()
        with pytest.raises(errors.Refused, match="does not support a transfer"):
            await one.replica.resign("ann", "upgrade")
        assert one.replica.active.is_set()


class Willing(Told):
    """Lets another lead when asked."""

    other: Told | None = None

    async def resign(self) -> None:
        self.tell(leader=False)
        if self.other is not None:
            self.other.tell(leader=True)


@in_virtual_time
async def test_the_node_of_the_leader_is_rolled_by_its_successor() -> None:
    told = Willing(leader=True)
    on_a = lambda member: member.logical_id == "a"  # noqa: E731
    async with Stage(leadership=told, is_self=on_a) as one:
        second, other = two(one)
        told.other = other
        async with second:
            await one.commit(pets("db", "a b c", quorum=True))
            await one.converged()
            await one.commit(pets("db", "a b c", quorum=True, version=1))
            await second.replica.active.wait()
            handed_over_at = now()
            await second.converged()
            assert now() - handed_over_at < 60.0  # an end that was recorded and not begun need not be waited out
            ended = [e for e in (*one.events, *second.events) if e.type is Kind.DESTROYING]
            assert [str(e.slot) for e in one.events if e.type is Kind.DESTROYING] == ["b", "c"]
            assert [str(e.slot) for e in second.events if e.type is Kind.DESTROYING] == ["a"]
            assert len(ended) == 3


@in_virtual_time
async def test_a_step_down_that_meets_the_loss_of_the_epoch_takes_no_time() -> None:
    """Both cancel the term; the cancellation of the second must not be lost in the exceptions of the first."""
    told = Told(leader=True)
    async with Stage(leadership=told) as one:
        await one.commit(cattle("web", 1))
        await one.converged()
        assert one.replica.term is not None
        one.replica.term.abort(errors.NotLeader("another holds epoch 2"))
        await asyncio.sleep(0)  # the failure is there, and the term has begun to end
        stepping_down = asyncio.get_running_loop().create_task(one.replica._step_down("another leads"))
        began = now()
        await stepping_down
        assert now() == began
