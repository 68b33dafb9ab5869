"""A replica acts only while it leads and holds the epoch, and recovers its state after any kind of stop."""

import asyncio
import random
from collections.abc import AsyncIterator

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.record import DeclarationRecord, with_group
from infrakit.manager.declaration.store import Declaration
from infrakit.manager.lead.fence import BOUND_S
from infrakit.simulation.parts import FaultyStore, StoreFaults
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.instance import Capabilities
from infrakit.spi.leadership import Observation
from infrakit.spi.store import Document
from infrakit.spi.values import GroupID
from infrakit.stores.memory import MemoryStore
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets


class ScriptedObserver:
    """A leadership observer that yields what a test reports."""

    def __init__(self) -> None:
        self._observations: asyncio.Queue[Observation] = asyncio.Queue()

    def report(self, leader: bool | None, *, valid_s: float = 1e9, age_s: float = 0.0) -> None:
        now = asyncio.get_running_loop().time()
        self._observations.put_nowait(Observation(leader=leader, begun_at=now - age_s, valid_s=valid_s, note="told so"))

    async def observe(self) -> AsyncIterator[Observation]:
        while True:
            yield await self._observations.get()


@in_virtual_time
async def test_only_a_leader_acts() -> None:
    leadership = ScriptedObserver()
    async with Stage(leadership=leadership) as stage:
        leadership.report(False)
        await asyncio.sleep(10)
        assert not stage.replica.active.is_set()
        leadership.report(True, age_s=100.0, valid_s=1.0)  # expired
        await asyncio.sleep(10)
        assert not stage.replica.active.is_set()
        leadership.report(True)
        await stage.commit(cattle("web", 2))
        await stage.converged()
        leadership.report(None)  # unknown does not mean lost
        await asyncio.sleep(5)
        assert stage.replica.active.is_set()
        leadership.report(False)
        await asyncio.sleep(5)
        assert not stage.replica.active.is_set()
        stage.kill("web", "1")
        await asyncio.sleep(60)
        assert len(stage.simulator.live()) == 1
        assert "not active: told so" in stage.messages(Kind.STOPPED)
        leadership.report(True)
        await stage.until(lambda: len(stage.alive("web")) == 2)
        assert stage.replica.term is not None
        assert stage.replica.term.ledger.epoch == 2


@pytest.mark.parametrize("tokens", [True, False])
@in_virtual_time
async def test_a_new_leader_resolves_intents_of_the_previous_leader(tokens: bool) -> None:
    faults = Faults(provision=Spread(low=10.0), lag=Spread(low=5.0), tokens=tokens)
    simulator, store = Simulator(faults), MemoryStore()
    async with Stage(simulator=simulator, store=store) as first:
        await first.commit(cattle("web", 6), pets("db", "a b c"))
        await first.until(lambda: len(first.messages(Kind.CREATING)) == 9)
        await asyncio.sleep(6)  # created already, and not answered yet
    assert simulator.calls["provision"] == 9
    simulator.faults = msgspec.structs.replace(faults, provision=Spread())  # a retry would be faster than a listing
    async with Stage(simulator=simulator, store=store) as second:
        await second.until(second.is_converged)
        assert len(second.alive("web")) == 6
        assert sorted(second.alive("db")) == ["a", "b", "c"]
        assert len(simulator.live()) == 9


@in_virtual_time
async def test_a_replica_that_lost_the_epoch_stops_acting_until_it_acquires_another() -> None:
    simulator, store = Simulator(), MemoryStore()
    async with Stage(simulator=simulator, store=store) as first:
        await first.commit(cattle("web", 2))
        await first.converged()
        async with Stage(simulator=simulator, store=store) as second:
            await second.until(second.is_converged)
            simulator.kill(next(iter(simulator.live())).id)
            await asyncio.sleep(120)
            assert len(simulator.live()) == 2
            assert simulator.calls["provision"] == 3  # two replicas, and no surplus instance
            assert any("not active" in m for m in (*first.messages(Kind.STOPPED), *second.messages(Kind.STOPPED)))


@in_virtual_time
async def test_an_unreachable_store_blocks_new_creations_and_nothing_is_lost() -> None:
    store = FaultyStore(random.Random(1))
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        store.faults = StoreFaults(unreachable_rate=1.0)
        stage.kill("web", "2")
        await asyncio.sleep(60)
        assert "2" not in stage.alive("web")
        assert any("connection refused" in m for m in stage.messages(Kind.ERROR))
        store.faults = StoreFaults()
        await stage.converged()
        assert len(stage.alive("web")) == 3


@in_virtual_time
async def test_a_store_without_a_response_times_out_and_is_retried() -> None:
    class HangingStore(MemoryStore):
        hangs = True

        async def replace(self, *, name: str, body: bytes, expected: int) -> int:
            if self.hangs:
                await asyncio.get_running_loop().create_future()
            return await super().replace(name=name, body=body, expected=expected)

    store = HangingStore()
    async with Stage(store=store) as stage:
        await asyncio.sleep(120)
        assert not stage.replica.active.is_set()
        assert "not active" in stage.messages(Kind.STOPPED)[0]
        store.hangs = False
        await stage.commit(cattle("web", 1))
        await stage.converged()


@in_virtual_time
async def test_an_intent_whose_write_lost_its_response_is_resolved() -> None:
    """Found by the simulation: the store executed the write; its response and the read after it were lost."""

    class LosesResponses(MemoryStore):
        lost = 0

        async def read(self, *, name: str) -> Document:
            if self.lost > 1:
                self.lost -= 1
                raise errors.Unreachable("connection refused", where="store")
            return await super().read(name=name)

        async def replace(self, *, name: str, body: bytes, expected: int) -> int:
            revision = await super().replace(name=name, body=body, expected=expected)
            if name == "ledger" and self.lost == 1:
                self.lost = 3
                raise errors.OutcomeUnknown("the connection broke", where="store")
            return revision

    store = LosesResponses()
    async with Stage(store=store) as stage:
        await stage.commit(pets("db", "a"))
        await stage.converged()
        store.lost = 1
        await stage.commit(pets("db", "a b"))
        await asyncio.sleep(5)
        await stage.commit(pets("db", "a"))
        await stage.until(
            lambda: stage.replica.term and not stage.replica.term.ledger.intents(stage.controller("db").name)
        )
        await stage.converged()
        assert sorted(stage.alive("db")) == ["a"]


@in_virtual_time
async def test_a_group_with_a_missing_plugin_does_not_delay_the_others() -> None:
    store = MemoryStore()
    other = cattle("x", 1)
    other["properties"]["Flavor"]["Plugin"] = "other"
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 1), other)
        await stage.converged()

    class Partial(Stage):
        pass

    second = Partial(store=store)
    plugins = second.replica.plugins
    find = plugins.flavor
    missing = {"left": 1}

    async def flavor(name: str) -> object:
        if name == "other" and missing["left"]:
            missing["left"] -= 1
            raise errors.NotFound(f"there is no flavor plugin {name!r}")
        return await find(name)

    plugins.flavor = flavor  # type: ignore[method-assign, assignment]
    async with second:
        await second.until(lambda: len(second.controllers()) == 1)
        assert any("there is no flavor plugin" in m for m in second.messages(Kind.ERROR))
        (unmanaged,) = [g for g in (await second.operator.status()).groups if g.phase == "unmanaged"]
        assert "there is no flavor plugin" in unmanaged.waiting[0].reason
        await second.until(lambda: len(second.controllers()) == 2)  # the plugin is resolved again
        await second.converged()


@in_virtual_time
async def test_a_hanging_plugin_delays_neither_other_groups_nor_a_halt() -> None:
    store = MemoryStore()
    other = cattle("x", 1)
    other["properties"]["Flavor"]["Plugin"] = "other"
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 1), other)
        await stage.converged()

    second = Stage(store=store)
    plugins = second.replica.plugins
    find = plugins.flavor
    requests = []

    async def flavor(name: str) -> object:
        requests.append(name)
        if name == "other" and requests.count(name) == 1:
            await asyncio.get_running_loop().create_future()
        return await find(name)

    plugins.flavor = flavor  # type: ignore[method-assign, assignment]
    async with second:
        await second.until(lambda: len(second.controllers()) == 1)
        running = second.controllers()[GroupID("web")]
        halting = asyncio.create_task(second.operator.halt(group=running.name, who="ann", why="wait"))
        await second.until(lambda: running.want.orders.halt is not None, within_s=0.2)
        await halting
        await second.until(lambda: len(second.controllers()) == 2)  # it timed out and was retried


@in_virtual_time
async def test_the_leader_executes_a_command_that_a_follower_received() -> None:
    store = MemoryStore()
    idle = ScriptedObserver()
    async with Stage(store=store) as leader, Stage(store=store, leadership=idle) as follower:
        await leader.commit(cattle("web", 1))
        await leader.converged()
        await follower.operator.scale(group=leader.controller("web").name, size=3, who="bob", why="more")
        await leader.until(lambda: len(leader.alive("web")) == 3)
        await leader.converged()
        assert len(await follower.operator.history()) == 2


@in_virtual_time
async def test_a_version_that_a_failed_command_has_read_is_applied_too() -> None:
    store = MemoryStore()
    async with Stage(store=store) as stage:
        committed = await stage.commit(cattle("web", 1))
        await stage.converged()
        group = stage.controller("web").name
        other = Declaration(store, stage.clock)
        await other.load()
        await other.change(changes.scale(group, 3), what="scale", who="bob", why="more")
        with pytest.raises(errors.Conflict):  # before the watch can report it
            await stage.operator.scale(group=group, size=2, who="ann", why="late", expected=committed.version)
        await stage.until(lambda: len(stage.alive("web")) == 3)
        await stage.converged()


@in_virtual_time
async def test_a_change_that_is_stored_is_reported_as_such_and_adopted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        term, failures = stage.replica.term, [errors.Unreachable("no answer", where="store"), TimeoutError()]
        assert term is not None
        adopt = term.adopt

        async def fail_twice(record: DeclarationRecord) -> None:
            if failures:
                raise failures.pop(0)
            await adopt(record)

        monkeypatch.setattr(term, "adopt", fail_twice)
        assert (await stage.commit(cattle("web", 3))).version == 2
        assert "version 2 is stored, but not adopted yet" in stage.messages(Kind.ERROR)[0]
        await stage.until(lambda: len(stage.alive("web")) == 3)
        assert not failures


class FullStore(MemoryStore):
    """A store without room, while it is `full`."""

    full = False

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if self.full:
            raise errors.Refused("the disk is full", where="store")
        return await super().replace(name=name, body=body, expected=expected)


@in_virtual_time
async def test_a_full_store_blocks_every_action_and_is_reported_once() -> None:
    store = FullStore()
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        store.full = True
        stage.simulator.kill(stage.simulator.live()[0].id)
        await asyncio.sleep(60.0)
        assert len(stage.simulator.live()) == 2  # no action starts without a record
        assert stage.replica.active.is_set()
        assert [e.message for e in stage.events].count("a cycle failed: store: the disk is full") == 1
        [waiting] = [w for w in (await stage.status("web")).waiting if w.rule == "cycle-failed"]
        assert "the disk is full" in waiting.reason
        with pytest.raises(errors.Refused, match="the disk is full"):
            await stage.scale("web", 5)
        store.full = False
        await stage.converged()
        assert len(stage.simulator.live()) == 3
        assert not (await stage.status("web")).waiting


@in_virtual_time
async def test_a_slow_store_delays_healing_and_changes_nothing_else() -> None:
    class SlowStore(MemoryStore):
        async def read(self, *, name: str) -> Document:
            await asyncio.sleep(0.4)
            return await super().read(name=name)

    async with Stage(store=SlowStore()) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        stage.simulator.kill(stage.simulator.live()[0].id)
        await stage.until(lambda: len(stage.simulator.live()) == 3)
        await stage.converged()
        assert (await stage.replica.peek()).bound_s > BOUND_S


@in_virtual_time
async def test_a_term_adopts_nothing_while_it_ends() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        term = stage.replica.term
        assert term is not None
        term.abort(errors.NotLeader("the epoch is lost"))
        record, requests = stage.replica.declaration.record, []
        for n in range(20):  # one in each step of its shutdown
            another = msgspec.structs.replace(record.groups[GroupID("web")], name=GroupID(f"api-{n}"))
            requests.append(asyncio.create_task(term.adopt(with_group(record, another))))
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert {type(each) for each in outcomes} == {type(None), errors.NotLeader}
        await stage.commit(cattle("api", 1))
        await stage.converged()
        assert set(stage.controllers()) == {"web", "api"}


class RestartingPlugin(MinimalProvider):
    """A remote plugin that may restart as another process."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.incarnation = 1
        self.reported = Capabilities(listing_lag_s=0.0, tokens=True)
        self.capabilities = self._report

    async def _report(self) -> Capabilities:
        return self.reported


@in_virtual_time
async def test_the_capabilities_of_a_restarted_plugin_are_read_again() -> None:
    async with Stage(provider=RestartingPlugin) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        controller = stage.controller("web")
        plugin = controller.account.instance
        assert isinstance(plugin, RestartingPlugin)
        plugin.incarnation += 1
        await asyncio.sleep(10)
        assert stage.controller("web") is controller  # the same capabilities, from another process
        assert (controller.view.lag_s, controller.want.tokens) == (0.0, True)
        plugin.incarnation += 1
        plugin.reported = Capabilities(listing_lag_s=40.0, tokens=False)
        await stage.until(lambda: stage.controllers().get(GroupID("web"), controller) is not controller)
        assert any("restarted with other capabilities" in message for message in stage.messages(Kind.OBSERVE_FAILED))
        now = stage.controller("web")
        assert (now.view.lag_s, now.want.tokens) == (40.0, False)
        await stage.converged()
        assert len(stage.simulator.live()) == 2
