"""The store in a real Swarm: whose quorum is lost, whose leader dies or sleeps, and whose configs people remove."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import pytest

from infrakit.clients.dockerd import Filters
from infrakit.clients.swarm import CHANGE_S, READ_S, Swarm
from infrakit.clients.swarm_values import Config
from infrakit.spi import errors
from infrakit.spi.store import Document
from infrakit.stores.swarm import SwarmStore
from infrakit.stores.swarm.revisions import BODY_BYTES_MAX, LABEL
from tests.integration.swarm.engines import PORT, Engines, Node, needs_swarm, running

pytestmark = [needs_swarm, pytest.mark.slow, pytest.mark.timeout(400)]
DEADLINE_S = 120
T = TypeVar("T")


@pytest.fixture
def engines() -> Iterator[Engines]:
    """Three managers; the first leads."""
    with running(3) as engines:
        yield engines


@pytest.fixture
def alone() -> Iterator[Node]:
    """A Swarm of one."""
    with running(1) as engines:
        yield engines.nodes[0]


class Patient(Swarm):
    """Waits for long, on a machine that is busy: where an answer will come."""

    async def _read(self, ask: Callable[[Any], Awaitable[T]], *, deadline_s: float = DEADLINE_S) -> T:
        del deadline_s
        return await super()._read(ask, deadline_s=DEADLINE_S)

    async def _change(self, doing: str, ask: Callable[[Any], Awaitable[T]], *, deadline_s: float = DEADLINE_S) -> T:
        return await super()._change(doing, ask, deadline_s=DEADLINE_S if deadline_s >= READ_S else deadline_s)


@contextlib.asynccontextmanager
async def opened(node: Node, *, client: type[Swarm] = Patient, keep: int = 16) -> AsyncIterator[SwarmStore]:
    store = SwarmStore(client(node.host), keep={"doc": keep})
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[Swarm]:
    client = Swarm(node.host)
    try:
        yield client
    finally:
        await client.close()


async def eventually(store: SwarmStore) -> Document:
    """What it reads as soon as it can."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(errors.Unreachable):
                return await store.read(name="doc")


async def parts(node: Node) -> list[str]:
    async with client_of(node) as client:
        return [each.name for each in await client.configs({"name": ["infrakit-part-"]})]


# -- one truth (law 1) -------------------------------------------------------------------------------------------------


async def test_a_leader_that_has_lost_its_quorum_reads_nothing_though_it_says_that_it_leads(engines: Engines) -> None:
    leader, *others = engines.nodes
    async with opened(leader, client=Swarm) as store, client_of(leader) as client:
        await store.replace(name="doc", body=b"1", expected=0)
        await store.read(name="doc")
        for node in others:
            node.pause()
        assert leader.leads()
        assert await client.configs({"name": ["infrakit-head-doc"]}), "it answers, from memory"
        with pytest.raises(errors.Unreachable):
            await store.read(name="doc")
        with pytest.raises((errors.OutcomeUnknown, errors.Unreachable)):
            await store.replace(name="doc", body=b"2", expected=1)
        for node in others:
            node.resume()
        assert (await eventually(store)).body in {b"1", b"2"}


async def test_a_leader_that_slept_never_reads_what_is_old(engines: Engines) -> None:
    sleeper, other, _ = engines.nodes
    async with opened(sleeper, client=Swarm) as old, opened(other, client=Swarm) as new:
        await old.replace(name="doc", body=b"1", expected=0)
        await old.read(name="doc")
        sleeper.pause()
        assert (await eventually(new)).revision == 1
        await new.replace(name="doc", body=b"2", expected=1)
        sleeper.resume()
        assert (await eventually(old)).revision == 2
        with pytest.raises(errors.Conflict, match="doc is at revision 2, not 1"):
            await old.replace(name="doc", body=b"stale", expected=1)


async def test_nothing_that_was_acknowledged_is_lost_with_the_leader(engines: Engines) -> None:
    leader, other, third = engines.nodes
    async with opened(leader, client=Swarm) as store:
        for number in range(6):
            await store.replace(name="doc", body=b"%d" % number, expected=number)
    leader.kill()
    async with opened(other, client=Swarm) as store:
        assert (await eventually(store)).body == b"5"
        assert [each.revision for each in await store.history(name="doc", limit=3)] == [6, 5, 4]
        assert await store.replace(name="doc", body=b"on", expected=6) == 7
    leader.start()
    for node in (leader, third):
        async with opened(node, client=Swarm) as store:
            assert (await eventually(store)).body == b"on"


async def test_an_answer_of_a_leader_that_has_not_caught_up_is_not_taken(alone: Node) -> None:
    async with opened(alone, client=Behind) as behind, opened(alone) as store:
        await store.replace(name="doc", body=b"1", expected=0)
        assert (await behind.read(name="doc")).revision == 1
        await store.replace(name="doc", body=b"2", expected=1)
        assert (await behind.read(name="doc")).revision == 2


class Behind(Patient):
    """A listing of several things is first the one before it, as of a new leader that has not applied all commits."""

    last: list[Config] | None = None

    async def configs(self, filters: Filters, *, deadline_s: float = READ_S) -> list[Config]:
        if len(filters["name"]) > 1 and self.last is not None:
            last, self.last = self.last, None
            return last
        found = await super().configs(filters, deadline_s=deadline_s)
        if len(filters["name"]) > 1:
            self.last = found
        return found


async def test_a_new_quorum_that_is_begun_from_one_managers_data_has_it_all(engines: Engines) -> None:
    async with opened(engines.nodes[1], client=Swarm) as store:
        await store.replace(name="doc", body=b"small", expected=0)
        large = os.urandom(500_000)
        await store.replace(name="doc", body=large, expected=1)
    last = engines.leader()  # another might lack what the majority had
    for each in engines.nodes:
        if each is not last:
            each.kill()
    own = ("--advertise-addr", last.address, "--listen-addr", f"{last.address}:{PORT}")
    last.docker("swarm", "init", "--force-new-cluster", *own)
    async with opened(last, client=Swarm) as store:
        assert (await eventually(store)).body == large
        assert [each.body for each in await store.history(name="doc", limit=5)] == [large, b"small"]
        assert await store.replace(name="doc", body=b"on", expected=2) == 3


async def test_of_writers_at_all_managers_one_wins_each_revision(engines: Engines) -> None:
    won: list[int] = []

    async def writer(node: Node, letter: bytes) -> None:
        async with opened(node, keep=200) as store:
            for _ in range(15):
                seen = await store.read(name="doc")
                with contextlib.suppress(errors.Conflict):
                    won.append(await store.replace(name="doc", body=seen.body + letter, expected=seen.revision))

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        for number, node in enumerate(engines.nodes * 2):
            tasks.create_task(writer(node, b"%d" % number))
    assert sorted(won) == list(range(1, len(won) + 1))
    async with opened(engines.nodes[1]) as store:
        assert len((await store.read(name="doc")).body) == len(won)
        assert len(await store.history(name="doc", limit=200)) == len(won)


async def test_neither_a_person_who_updates_the_swarm_nor_the_store_is_in_the_others_way(alone: Node) -> None:
    done = asyncio.Event()

    async def person() -> int:
        count = 0
        while not done.is_set() or not count:
            count += 1
            await asyncio.to_thread(alone.docker, "swarm", "update", "--task-history-limit", str(count))
        return count

    async with opened(alone) as store, asyncio.TaskGroup() as tasks:
        updating = tasks.create_task(person())
        for number in range(60):
            await store.replace(name="doc", body=b"%d" % number, expected=number)
            assert (await store.read(name="doc")).revision == number + 1
        done.set()
    assert f"Task History Retention Limit: {updating.result()}" in alone.docker("info")


async def test_labels_that_somebody_adds_to_a_head_cost_a_writer_one_more_attempt(alone: Node) -> None:
    async with opened(alone, client=Preceded) as store:
        await store.replace(name="doc", body=b"1", expected=0)
        assert await store.replace(name="doc", body=b"2", expected=1) == 2
        assert [each.body for each in await store.history(name="doc", limit=5)] == [b"2", b"1"]


class Preceded(Patient):
    """Somebody else changes the labels of a head right before each swap that was not tried before."""

    busy = False

    async def update_config_labels(
        self, config: Config, labels: Mapping[str, str], *, deadline_s: float = CHANGE_S
    ) -> None:
        of_head = config.name == "infrakit-head-doc"
        self.busy = self.busy != of_head
        if self.busy and of_head:
            await super().update_config_labels(config, config.labels | {"mine": "too"})
        await super().update_config_labels(config, labels, deadline_s=deadline_s)


async def test_an_answer_that_is_lost_leaves_the_outcome_open(alone: Node) -> None:
    async with opened(alone) as store:
        await store.replace(name="doc", body=b"1", expected=0)
    Interrupted.engine = alone
    async with opened(alone, client=Interrupted) as store:
        with pytest.raises(errors.OutcomeUnknown):
            await store.replace(name="doc", body=b"2", expected=1)
        assert (await eventually(store)).body in {b"1", b"2"}


async def test_a_part_of_which_nothing_is_known_leaves_no_doubt_about_the_document(alone: Node) -> None:
    Interrupted.engine = alone
    async with opened(alone, client=Interrupted) as store:
        with pytest.raises(errors.Unreachable):
            await store.replace(name="doc", body=os.urandom(500_000), expected=0)
        assert (await eventually(store)).revision == 0


class Interrupted(Swarm):
    """Its Engine stands still whenever a head is swapped, or a part is made."""

    engine: Node

    async def create_config(
        self, name: str, *, labels: Mapping[str, str], data: bytes, deadline_s: float = CHANGE_S
    ) -> str:
        if not name.startswith("infrakit-part-"):
            return await super().create_config(name, labels=labels, data=data, deadline_s=deadline_s)
        self.engine.pause()
        try:
            return await super().create_config(name, labels=labels, data=data, deadline_s=0.3)
        finally:
            self.engine.resume()

    async def update_config_labels(
        self, config: Config, labels: Mapping[str, str], *, deadline_s: float = CHANGE_S
    ) -> None:
        if config.name != "infrakit-head-doc":
            return await super().update_config_labels(config, labels, deadline_s=deadline_s)
        self.engine.pause()
        try:
            return await super().update_config_labels(config, labels, deadline_s=0.3)
        finally:
            self.engine.resume()


async def test_a_worker_is_told_to_ask_a_manager() -> None:
    with running(2, joined=False) as engines:
        manager, worker = engines.nodes
        manager.init()
        worker.join(manager, role="worker")
        async with opened(worker) as store:
            with pytest.raises(errors.Refused, match=r"not a manager of a Swarm.*docker swarm"):
                await store.read(name="doc")
            with pytest.raises(errors.Refused, match=r"not a manager of a Swarm"):
                await store.replace(name="doc", body=b"1", expected=0)


# -- large bodies ------------------------------------------------------------------------------------------------------


async def test_a_large_body_is_cut_and_one_that_is_too_large_is_refused_before_anything_is_written(
    alone: Node,
) -> None:
    large = os.urandom(900_000)
    async with opened(alone) as store:
        await store.replace(name="doc", body=large, expected=0)
        assert len(await parts(alone)) == 3
        for body in (os.urandom(2_100_000), b"x" * (BODY_BYTES_MAX + 1)):
            with pytest.raises(errors.Refused, match="the limit"):
                await store.replace(name="doc", body=body, expected=1)
        assert len(await parts(alone)) == 3
    async with opened(alone) as other:
        assert (await other.read(name="doc")).body == large


async def test_what_is_forgotten_takes_its_parts_along(alone: Node) -> None:
    async with opened(alone, keep=2) as store:
        for number in range(4):
            await store.replace(name="doc", body=os.urandom(450_000), expected=number)
        assert [each.revision for each in await store.history(name="doc", limit=9)] == [4, 3]
        assert len(await parts(alone)) == 4
    async with opened(alone, keep=200) as store:
        for number in range(4, 8):
            await store.replace(name="doc", body=os.urandom(1_500_000), expected=number)
        kept = [each.revision for each in await store.history(name="doc", limit=9)]
        assert kept == [8, 7], "together they would be too much for the memory of managers"


async def test_who_loses_leaves_nothing_behind(alone: Node) -> None:
    async with opened(alone) as one, opened(alone) as two:
        bodies = [os.urandom(500_000), os.urandom(500_000)]
        outcomes = await asyncio.gather(
            *(store.replace(name="doc", body=body, expected=0) for store, body in zip((one, two), bodies, strict=True)),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in outcomes) == ["Conflict", "int"]
        assert (await two.read(name="doc")).body in bodies
    assert len(await parts(alone)) == 2


# -- what people and crashes do ----------------------------------------------------------------------------------------


async def test_a_part_that_somebody_removed_is_refused_with_the_way_out(alone: Node) -> None:
    async with opened(alone) as store:
        await store.replace(name="doc", body=b"small", expected=0)
        await store.replace(name="doc", body=os.urandom(500_000), expected=1)
    alone.docker("config", "rm", (await parts(alone))[0])
    async with opened(alone) as store:
        with pytest.raises(errors.Refused, match=r"revision 2 of doc is damaged.*docker config rm infrakit-head-doc"):
            await store.read(name="doc")
        with pytest.raises(errors.InfraKitError):
            await store.history(name="doc", limit=5)
        await store.replace(name="doc", body=b"mended", expected=2)
        assert [each.revision for each in await store.history(name="doc", limit=5)] == [3, 1]
        alone.docker("config", "rm", "infrakit-head-doc")
        assert (await store.read(name="doc")).revision == 0


@pytest.mark.parametrize("label", ["", "nonsense", '{"revisions":[]}', "other body", "no order"])
async def test_a_head_that_was_changed_by_hand_is_refused(alone: Node, label: str) -> None:
    async with opened(alone) as store, client_of(alone) as client:
        await store.replace(name="doc", body=b"1", expected=0)
        await store.replace(name="doc", body=b"2", expected=1)
        head = next(each for each in await client.configs({"name": ["infrakit-head-doc"]}))
        text = head.labels[LABEL]
        if label == "other body":
            label = text.replace('"sha256":"', '"sha256":"00')
        elif label == "no order":
            label = text.replace('"number":2', '"number":1')
        await client.update_config_labels(head, {LABEL: label})
    async with opened(alone) as store:
        with pytest.raises(errors.Refused, match="doc"):
            await store.read(name="doc")
        with pytest.raises(errors.Refused, match="doc"):
            await store.history(name="doc", limit=2)


async def test_what_a_crash_left_behind_is_swept_up_and_a_writer_that_slept_meanwhile_starts_anew(alone: Node) -> None:
    body = os.urandom(500_000)
    async with opened(alone) as store, opened(alone, client=Sleeping) as slow, client_of(alone) as client:
        await store.replace(name="doc", body=b"1", expected=0)
        await client.create_config("infrakit-part-doc-left-0", labels={}, data=b"x")
        await client.create_config("infrakit-barrier-left", labels={}, data=b"x")
        Sleeping.asleep.clear()
        Sleeping.wake.clear()
        writing = asyncio.ensure_future(slow.replace(name="doc", body=body, expected=1))
        await asyncio.wait_for(Sleeping.asleep.wait(), DEADLINE_S)
        await store._sweep.sweep()
        assert len(await parts(alone)) == 3, "what was just seen may have an owner"
        await store._sweep.sweep(left_s=0.0)
        assert await parts(alone) == []
        Sleeping.wake.set()
        assert await writing == 2
        assert (await store.read(name="doc")).body == body
        assert "infrakit-barrier-left" not in [each.name for each in await client.configs({})]


class Sleeping(Patient):
    """Sleeps before a head is swapped."""

    asleep = asyncio.Event()
    wake = asyncio.Event()

    async def update_config_labels(
        self, config: Config, labels: Mapping[str, str], *, deadline_s: float = CHANGE_S
    ) -> None:
        if config.name == "infrakit-head-doc":
            self.asleep.set()
            await self.wake.wait()
        await super().update_config_labels(config, labels, deadline_s=deadline_s)


async def test_a_store_that_is_closed_leaves_its_documents_only(alone: Node) -> None:
    async with opened(alone) as store:
        await store.replace(name="doc", body=b"1", expected=0)
        await store.read(name="doc")
    async with client_of(alone) as client:
        assert [each.name for each in await client.configs({})] == ["infrakit-head-doc"]


async def test_a_watch_goes_on_over_the_death_of_the_leader(engines: Engines) -> None:
    leader, other, third = engines.nodes
    async with opened(other, client=Swarm) as store, opened(third, client=Swarm) as writer:
        seen = store.watch(name="doc")
        async with asyncio.timeout(DEADLINE_S):
            assert await anext(seen) == 0
            await writer.replace(name="doc", body=b"1", expected=0)
            assert await anext(seen) == 1
            pending = asyncio.ensure_future(anext(seen))
            leader.kill()
            assert (await eventually(writer)).revision == 1
            await writer.replace(name="doc", body=b"2", expected=1)
            assert await pending == 2


async def test_no_engine_is_unreachable_and_what_can_be_done_is_told() -> None:
    store = SwarmStore(Swarm("unix:///nowhere/docker.sock"))
    with pytest.raises(errors.Unreachable, match=r"cannot connect: No such file or directory; start it, .* swarm:///"):
        await store.read(name="doc")
    with pytest.raises(errors.Unreachable, match="cannot connect"):
        await store.replace(name="doc", body=b"1", expected=0)
    await store.close()
