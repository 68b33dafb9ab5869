"""Fencing: no call of an older epoch starts once a newer one acts, and calls in flight are resolved first."""

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


class SlowStore(MemoryStore):
    """A store whose reads take `read_s`."""

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
async def test_a_fencing_check_expires() -> None:
    ledger = await opened(MemoryStore())
    await ledger.prove()
    ledger.check()
    await asyncio.sleep(BOUND_S * 1.01)
    with pytest.raises(errors.NotLeader, match="not proven for"):
        ledger.check()
    await ledger.prove()
    ledger.check()


@in_virtual_time
async def test_concurrent_fencing_checks_share_one_read() -> None:
    store = SlowStore()
    ledger = await opened(store)
    await asyncio.sleep(1.0)
    store.read_s, store.reads = BOUND_S / 10, 0
    await asyncio.gather(*(ledger.prove() for _ in range(100)))
    assert store.reads == 1


@in_virtual_time
async def test_a_new_leader_waits_until_the_fencing_check_of_the_previous_leader_has_expired() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.prove()
    checked_at = now()
    second = await opened(store, "two")
    with pytest.raises(errors.NotLeader):
        second.check()
    await second.prove()
    assert now() >= checked_at + BOUND_S * DRIFT
    second.check()
    with pytest.raises(errors.NotLeader):
        first.check()
    with pytest.raises(errors.NotLeader, match="two holds epoch 2"):
        await first.prove()


@in_virtual_time
async def test_a_new_leader_does_not_wait_for_a_previous_leader_that_closed_its_epoch() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    first.resign("enough")
    await first.close()
    second = await opened(store, "two")
    await second.prove()
    second.check()
    assert now() == 0.0
    await first.close()  # too late: it does not affect the new leader
    assert not (await second.peek()).closed


@in_virtual_time
async def test_a_slow_store_gets_a_longer_bound_which_is_recorded_before_it_is_used() -> None:
    store = SlowStore()
    first = await opened(store, "one")
    await asyncio.sleep(1.0)
    store.read_s = 0.5
    await first.prove()
    first.check()
    assert (await first.peek()).bound_s == pytest.approx(2.0)
    store.read_s = 0.0
    await first.prove()
    checked_at = now()
    second = await opened(store, "two")
    await second.prove()
    assert now() - checked_at >= 2.0
    with pytest.raises(errors.NotLeader):
        first.check()


@in_virtual_time
async def test_a_fencing_check_fails_if_the_store_is_too_slow() -> None:
    store = SlowStore()
    ledger = await opened(store)
    await asyncio.sleep(1.0)
    store.read_s = 3.0
    with pytest.raises(errors.NotLeader, match="too long to prove"):
        await ledger.prove()


@in_virtual_time
async def test_a_process_that_slept_between_fencing_check_and_call_may_not_make_the_call() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.prove()
    second = await opened(store, "two")
    await second.prove()
    second.check()  # the new leader may start a call now
    with pytest.raises(errors.NotLeader):
        first.check()


@in_virtual_time
async def test_a_replica_with_an_expired_leadership_observation_may_not_act() -> None:
    ledger = await opened(MemoryStore(), leads_until=lambda: 5.0)
    guard = asyncio.get_running_loop().create_task(ledger.guard_leadership())
    await asyncio.sleep(4.9)
    await ledger.prove()
    ledger.check()
    assert not guard.done()
    await asyncio.sleep(0.1)
    with pytest.raises(errors.NotLeader, match="leadership observation has expired"):
        ledger.check()
    with pytest.raises(errors.NotLeader, match="leadership observation has expired"):
        await guard


@in_virtual_time
async def test_a_replica_that_cannot_check_its_epoch_for_long_gives_it_up() -> None:
    class UnreachableStore(MemoryStore):
        unreachable = False

        async def read(self, *, name: str) -> Document:
            if self.unreachable:
                raise errors.Unreachable("connection refused")
            return await super().read(name=name)

    store = UnreachableStore()
    ledger = await opened(store)
    polling = asyncio.get_running_loop().create_task(ledger.poll_epoch())
    await asyncio.sleep(60.0)
    assert not polling.done()
    store.unreachable = True
    with pytest.raises(errors.NotLeader, match="could not be proven for"):
        await asyncio.wait_for(polling, UNPROVEN_S_MAX + 60.0)
    assert now() < 60.0 + UNPROVEN_S_MAX + 10.0


@in_virtual_time
async def test_the_loss_of_the_epoch_is_detected_at_once() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    watching = asyncio.get_running_loop().create_task(first.watch_epoch())
    await asyncio.sleep(0.5)
    await opened(store, "two")
    with pytest.raises(errors.NotLeader, match="two holds epoch 2"):
        await watching
    assert now() == 0.5


@in_virtual_time
async def test_a_store_that_was_reset_to_an_older_revision_is_refused() -> None:
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
async def test_a_new_leader_finds_the_destructions_in_flight() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.record(G, wanted={}, settled=[], destroying=[InstanceID("b"), InstanceID("a")])
    await first.record(G, wanted={Slot("1"): "v"}, settled=[])  # does not change them
    assert tuple((await opened(store, "two")).destroying(G)) == ("a", "b")


@in_virtual_time
async def test_recorded_calls_that_were_not_started_are_withdrawn_at_the_end_of_the_term() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.record(
        G, wanted={Slot("1"): "v", Slot("2"): "v"}, settled=[], destroying=[InstanceID("a"), InstanceID("b")]
    )
    first.withdraw(G, slots=[Slot("1")], destroying=[InstanceID("b")])
    assert set(first.intents(G)) == {"1", "2"}  # they count until then
    first.resign("enough")
    await first.close()
    second = await opened(store, "two")
    assert set(second.intents(G)) == {"2"}
    assert tuple(second.destroying(G)) == ("a",)


@in_virtual_time
async def test_a_replica_that_lost_the_epoch_cannot_withdraw_what_it_recorded() -> None:
    store = MemoryStore()
    first = await opened(store, "one")
    await first.record(G, wanted={Slot("1"): "v"}, settled=[], destroying=[InstanceID("a")])
    second = await opened(store, "two")
    first.withdraw(G, slots=[Slot("1")], destroying=[InstanceID("a")])
    await first.close()
    assert set((await second.peek()).intents[G]) == {"1"}


# -- two replicas ------------------------------------------------------------------------------------------------------


class ScriptedObserver:
    """Reports the leadership that a test sets."""

    def __init__(self, *, leader: bool) -> None:
        self.leader: bool | None = leader
        self.changed = asyncio.Event()

    def set_leader(self, *, leader: bool | None) -> None:
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


def second_replica(first: Stage) -> tuple[Stage, ScriptedObserver]:
    """A second replica with the same store and provider as the stage, and its leadership observer."""
    observer = ScriptedObserver(leader=False)
    return Stage(store=first.store, simulator=first.simulator, leadership=observer), observer


@in_virtual_time
async def test_a_failover_creates_nothing_twice() -> None:
    observer = ScriptedObserver(leader=True)
    async with Stage(leadership=observer) as one:
        second, second_observer = second_replica(one)
        async with second:
            await one.commit(pets("db", "a b c"))
            await one.converged()
            observer.set_leader(leader=False)
            second_observer.set_leader(leader=True)
            await second.replica.active.wait()
            await second.converged()
            assert not one.replica.active.is_set()
            assert len(one.simulator.live()) == 3
            assert second.replica.term is not None
            assert second.replica.term.ledger.epoch == 2


@in_virtual_time
async def test_the_term_ends_when_the_last_leadership_observation_has_expired() -> None:
    observer = ScriptedObserver(leader=True)
    async with Stage(leadership=observer) as one:
        await one.commit(cattle("web", 2))
        await one.converged()
        observer.set_leader(leader=None)
        await asyncio.sleep(1.5)
        assert one.replica.active.is_set()
        await asyncio.sleep(1.0)
        assert not one.replica.active.is_set()
        assert any(e.type is Kind.STOPPED and "leadership observation has expired" in e.message for e in one.events)
        observer.set_leader(leader=True)
        await one.converged()


@in_virtual_time
@pytest.mark.parametrize("answer", [False, None], ids=["another leader", "no observation"])
async def test_the_end_of_leadership_cancels_every_call_and_reports_its_unknown_outcome(answer: bool | None) -> None:
    observer = ScriptedObserver(leader=True)
    async with Stage(leadership=observer) as one:
        await one.commit(cattle("web", 3))
        await one.converged()
        one.fault(provision=Spread(low=20.0, high=20.0), destroy=Spread(low=20.0, high=20.0))
        victim = next(iter(one.alive("web").values())).id
        await one.operator.destroy_instance(instance=victim, who="ann", why="a test", replace=True)
        await one.until(lambda: one.messages(Kind.DESTROYING))
        await one.scale("web", 5)
        await one.until(lambda: len(one.messages(Kind.CREATING)) == 5)
        one.events.clear()
        observer.set_leader(leader=answer)
        valid_until = now() if answer is False else one.replica.leads_until
        await one.until(lambda: one.replica.term is None)
        assert now() <= valid_until + 0.1
        outcomes = [(e.type, e.instance) for e in one.events if "outcome unknown (call cancelled)" in e.message]
        assert sorted(outcomes, key=str) == [
            (Kind.CREATE_UNKNOWN, None),
            (Kind.CREATE_UNKNOWN, None),
            (Kind.DESTROY_FAILED, victim),
        ]


@in_virtual_time
async def test_a_creation_cancelled_before_the_provider_was_called_is_reported_as_not_created() -> None:
    class Endless(SimulatedFlavor):
        """Its prepare never returns."""

        async def prepare(self, **_: Any) -> InstanceSpec:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    observer = ScriptedObserver(leader=True)
    async with Stage(leadership=observer, flavor_class=Endless) as one:
        await one.commit(cattle("web", 1))
        await one.until(lambda: one.messages(Kind.CREATING))
        observer.set_leader(leader=False)
        await one.until(lambda: one.replica.term is None, within_s=1.0)
        assert one.messages(Kind.CREATE_FAILED) == ["cancelled before the provider was called: nothing was created"]
        assert (await one.replica.peek()).intents == {}


@in_virtual_time
async def test_a_failing_leadership_observer_is_retried() -> None:
    class Failing(ScriptedObserver):
        broken = False

        async def observe(self) -> AsyncIterator[Observation]:
            async for observation in super().observe():
                if self.broken:
                    self.broken = False
                    raise errors.Unreachable("connection refused")
                yield observation

    observer = Failing(leader=True)
    async with Stage(leadership=observer) as one:
        await one.commit(cattle("web", 2))
        await one.converged()
        observer.broken = True
        await asyncio.sleep(5.0)
        assert one.replica.active.is_set()
        assert any("cannot be observed" in e.message for e in one.events)


@in_virtual_time
async def test_a_member_that_the_previous_leader_was_destroying_counts_as_leaving() -> None:
    """A rolling update of a quorum: while the outcome for one member is unknown, no other is destroyed."""
    observer = ScriptedObserver(leader=True)
    async with Stage(leadership=observer) as one:
        await one.commit(pets("db", "a b c", quorum=True))
        await one.converged()
        assert one.replica.term is not None
        victim = next(m.id for m in one.simulator.live() if m.logical_id == "b")
        await one.replica.term.ledger.record(GroupID("db"), wanted={}, settled=[], destroying=[victim])
        second, second_observer = second_replica(one)
        async with second:
            observer.set_leader(leader=False)
            second_observer.set_leader(leader=True)
            await second.replica.active.wait()
            await second.commit(pets("db", "a b c", quorum=True, version=1))
            await asyncio.sleep(60.0)
            assert {m.id for m in second.simulator.live()} == {m.id for m in one.simulator.live()}
            assert len(second.simulator.machines) == 3  # no other member was destroyed
            second.simulator.kill(victim)  # now the call of the previous leader takes effect
            await second.converged()


@in_virtual_time
async def test_a_member_that_the_previous_leader_failed_to_destroy_is_managed_again() -> None:
    observer = ScriptedObserver(leader=True)
    async with Stage(leadership=observer) as one:
        await one.commit(pets("db", "a b c", quorum=True))
        await one.converged()
        assert one.replica.term is not None
        victim = next(m.id for m in one.simulator.live() if m.logical_id == "b")
        await one.replica.term.ledger.record(GroupID("db"), wanted={}, settled=[], destroying=[victim])
        second, second_observer = second_replica(one)
        async with second:
            observer.set_leader(leader=False)
            second_observer.set_leader(leader=True)
            await second.replica.active.wait()
            await asyncio.sleep(10.0)
            assert not (await second.status("db")).converged
            await second.converged()
            assert second.replica.term is not None
            await asyncio.sleep(10.0)
            assert not second.replica.term.ledger.destroying(GroupID("db"))


@in_virtual_time
async def test_a_replica_whose_observer_cannot_transfer_leadership_does_not_resign() -> None:
    async with Stage() as one:
        await one.replica.active.wait()
        with pytest.raises(errors.Refused, match="does not support a transfer"):
            await one.replica.resign("ann", "upgrade")
        assert one.replica.active.is_set()


class TransferringObserver(ScriptedObserver):
    """Transfers leadership to another observer on resignation."""

    second_observer: ScriptedObserver | None = None

    async def resign(self) -> None:
        self.set_leader(leader=False)
        if self.second_observer is not None:
            self.second_observer.set_leader(leader=True)


@in_virtual_time
async def test_the_node_of_the_leader_is_updated_by_the_new_leader() -> None:
    observer = TransferringObserver(leader=True)
    on_a = lambda member: member.logical_id == "a"  # noqa: E731
    async with Stage(leadership=observer, is_self=on_a) as one:
        second, second_observer = second_replica(one)
        observer.second_observer = second_observer
        async with second:
            await one.commit(pets("db", "a b c", quorum=True))
            await one.converged()
            await one.commit(pets("db", "a b c", quorum=True, version=1))
            await second.replica.active.wait()
            transferred_at = now()
            await second.converged()
            assert now() - transferred_at < 60.0  # a recorded destruction that was not started causes no wait
            destroyed = [e for e in (*one.events, *second.events) if e.type is Kind.DESTROYING]
            assert [str(e.slot) for e in one.events if e.type is Kind.DESTROYING] == ["b", "c"]
            assert [str(e.slot) for e in second.events if e.type is Kind.DESTROYING] == ["a"]
            assert len(destroyed) == 3


@in_virtual_time
async def test_a_step_down_during_the_loss_of_the_epoch_takes_no_time() -> None:
    """Both cancel the term; the cancellation of the second must not be lost in the exceptions of the first."""
    observer = ScriptedObserver(leader=True)
    async with Stage(leadership=observer) as one:
        await one.commit(cattle("web", 1))
        await one.converged()
        assert one.replica.term is not None
        one.replica.term.abort(errors.NotLeader("another holds epoch 2"))
        await asyncio.sleep(0)  # the term has failed and is ending
        stepping_down = asyncio.get_running_loop().create_task(one.replica._step_down("another leads"))
        began = now()
        await stepping_down
        assert now() == began
