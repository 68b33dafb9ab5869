"""The store in a real Swarm: loss of the quorum, killed and suspended leaders, and configs that users remove."""

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
def single_node() -> Iterator[Node]:
    """A Swarm of one node."""
    with running(1) as engines:
        yield engines.nodes[0]


class LongTimeouts(Swarm):
    """Has long timeouts for a busy machine, for tests in which each call gets a response."""

    async def _read(self, request: Callable[[Any], Awaitable[T]], *, deadline_s: float = DEADLINE_S) -> T:
        del deadline_s
        return await super()._read(request, deadline_s=DEADLINE_S)

    async def _change(self, doing: str, request: Callable[[Any], Awaitable[T]], *, deadline_s: float = DEADLINE_S) -> T:
        return await super()._change(doing, request, deadline_s=DEADLINE_S if deadline_s >= READ_S else deadline_s)


@contextlib.asynccontextmanager
async def opened(node: Node, *, client: type[Swarm] = LongTimeouts, keep: int = 16) -> AsyncIterator[SwarmStore]:
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
    """Read the document, with retries while the store is unreachable."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(errors.Unreachable):
                return await store.read(name="doc")


async def parts(node: Node) -> list[str]:
    async with client_of(node) as client:
        return [each.name for each in await client.configs({"name": ["infrakit-part-"]})]


# -- consistency (law 1) -----------------------------------------------------------------------------------------------


async def test_reads_fail_at_a_leader_that_has_lost_its_quorum(engines: Engines) -> None:
    leader, *others = engines.nodes
    async with opened(leader, client=Swarm) as store, client_of(leader) as client:
        await store.replace(name="doc", body=b"1", expected=0)
        await store.read(name="doc")
        for node in others:
            node.pause()
        assert leader.leads()
        assert await client.configs({"name": ["infrakit-head-doc"]}), "it still answers, from memory"
        with pytest.raises(errors.Unreachable):
            await store.read(name="doc")
        with pytest.raises((errors.OutcomeUnknown, errors.Unreachable)):
            await store.replace(name="doc", body=b"2", expected=1)
        for node in others:
            node.resume()
        assert (await eventually(store)).body in {b"1", b"2"}


async def test_a_resumed_leader_never_reads_stale_data(engines: Engines) -> None:
    suspended, other, _ = engines.nodes
    async with opened(suspended, client=Swarm) as old, opened(other, client=Swarm) as new:
        await old.replace(name="doc", body=b"1", expected=0)
        await old.read(name="doc")
        suspended.pause()
        assert (await eventually(new)).revision == 1
        await new.replace(name="doc", body=b"2", expected=1)
        suspended.resume()
        assert (await eventually(old)).revision == 2
        with pytest.raises(errors.Conflict, match="doc is at revision 2, not 1"):
            await old.replace(name="doc", body=b"stale", expected=1)


async def test_no_acknowledged_write_is_lost_when_the_leader_is_killed(engines: Engines) -> None:
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


async def test_a_stale_listing_of_a_new_leader_is_not_used(single_node: Node) -> None:
    async with opened(single_node, client=Stale) as stale, opened(single_node) as store:
        await store.replace(name="doc", body=b"1", expected=0)
        assert (await stale.read(name="doc")).revision == 1
        await store.replace(name="doc", body=b"2", expected=1)
        assert (await stale.read(name="doc")).revision == 2


class Stale(LongTimeouts):
    """Returns the previous listing first, like a new leader that has not applied all commits."""

    last: list[Config] | None = None

    async def configs(self, filters: Filters, *, deadline_s: float = READ_S) -> list[Config]:
        if len(filters["name"]) > 1 and self.last is not None:
            last, self.last = self.last, None
            return last
        found = await super().configs(filters, deadline_s=deadline_s)
        if len(filters["name"]) > 1:
            self.last = found
        return found


async def test_a_forced_new_cluster_keeps_the_data_of_its_manager(engines: Engines) -> None:
    async with opened(engines.nodes[1], client=Swarm) as store:
        await store.replace(name="doc", body=b"small", expected=0)
        large = os.urandom(500_000)
        await store.replace(name="doc", body=large, expected=1)
    last = engines.leader()  # another manager might lack data of the majority
    for each in engines.nodes:
        if each is not last:
            each.kill()
    own = ("--advertise-addr", last.address, "--listen-addr", f"{last.address}:{PORT}")
    last.docker("swarm", "init", "--force-new-cluster", *own)
    async with opened(last, client=Swarm) as store:
        assert (await eventually(store)).body == large
        assert [each.body for each in await store.history(name="doc", limit=5)] == [large, b"small"]
        assert await store.replace(name="doc", body=b"on", expected=2) == 3


async def test_one_of_the_writers_at_all_managers_wins_each_revision(engines: Engines) -> None:
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


async def test_an_operator_and_the_store_can_update_the_swarm_concurrently(single_node: Node) -> None:
    done = asyncio.Event()

    async def operator() -> int:
        count = 0
        while not done.is_set() or not count:
            count += 1
            await asyncio.to_thread(single_node.docker, "swarm", "update", "--task-history-limit", str(count))
        return count

    async with opened(single_node) as store, asyncio.TaskGroup() as tasks:
        updating = tasks.create_task(operator())
        for number in range(60):
            await store.replace(name="doc", body=b"%d" % number, expected=number)
            assert (await store.read(name="doc")).revision == number + 1
        done.set()
    assert f"Task History Retention Limit: {updating.result()}" in single_node.docker("info")


async def test_a_write_is_retried_after_another_client_changed_the_labels_of_a_head(single_node: Node) -> None:
    async with opened(single_node, client=Outpaced) as store:
        await store.replace(name="doc", body=b"1", expected=0)
        assert await store.replace(name="doc", body=b"2", expected=1) == 2
        assert [each.body for each in await store.history(name="doc", limit=5)] == [b"2", b"1"]


class Outpaced(LongTimeouts):
    """Another client changes the labels of a head right before the first attempt of each swap."""

    busy = False

    async def update_config_labels(
        self, config: Config, labels: Mapping[str, str], *, deadline_s: float = CHANGE_S
    ) -> None:
        of_head = config.name == "infrakit-head-doc"
        self.busy = self.busy != of_head
        if self.busy and of_head:
            await super().update_config_labels(config, config.labels | {"mine": "too"})
        await super().update_config_labels(config, labels, deadline_s=deadline_s)


async def test_a_lost_response_leaves_the_outcome_unknown(single_node: Node) -> None:
    async with opened(single_node) as store:
        await store.replace(name="doc", body=b"1", expected=0)
    Interrupted.engine = single_node
    async with opened(single_node, client=Interrupted) as store:
        with pytest.raises(errors.OutcomeUnknown):
            await store.replace(name="doc", body=b"2", expected=1)
        assert (await eventually(store)).body in {b"1", b"2"}


async def test_an_unknown_outcome_of_a_part_leaves_the_document_unchanged(single_node: Node) -> None:
    Interrupted.engine = single_node
    async with opened(single_node, client=Interrupted) as store:
        with pytest.raises(errors.Unreachable):  # one part, which the socket of a suspended Engine still takes
            await store.replace(name="doc", body=os.urandom(100_000), expected=0)
        assert (await eventually(store)).revision == 0


class Interrupted(Swarm):
    """Suspends its Engine whenever a head is swapped or a part is created."""

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


async def test_a_store_on_a_worker_is_refused() -> None:
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


async def test_a_large_body_is_split_and_an_oversized_one_is_refused_before_writing(
    single_node: Node,
) -> None:
    large = os.urandom(900_000)
    async with opened(single_node) as store:
        await store.replace(name="doc", body=large, expected=0)
        assert len(await parts(single_node)) == 3
        for body in (os.urandom(2_100_000), b"x" * (BODY_BYTES_MAX + 1)):
            with pytest.raises(errors.Refused, match="the limit"):
                await store.replace(name="doc", body=body, expected=1)
        assert len(await parts(single_node)) == 3
    async with opened(single_node) as other:
        assert (await other.read(name="doc")).body == large


async def test_pruned_revisions_are_removed_with_their_parts(single_node: Node) -> None:
    async with opened(single_node, keep=2) as store:
        for number in range(4):
            await store.replace(name="doc", body=os.urandom(450_000), expected=number)
        assert [each.revision for each in await store.history(name="doc", limit=9)] == [4, 3]
        assert len(await parts(single_node)) == 4
    async with opened(single_node, keep=200) as store:
        for number in range(4, 8):
            await store.replace(name="doc", body=os.urandom(1_500_000), expected=number)
        kept = [each.revision for each in await store.history(name="doc", limit=9)]
        assert kept == [8, 7], "together they would exceed the memory limit of managers"


async def test_a_conflicting_write_leaves_no_parts_behind(single_node: Node) -> None:
    async with opened(single_node) as one, opened(single_node) as two:
        bodies = [os.urandom(500_000), os.urandom(500_000)]
        outcomes = await asyncio.gather(
            *(store.replace(name="doc", body=body, expected=0) for store, body in zip((one, two), bodies, strict=True)),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in outcomes) == ["Conflict", "int"]
        assert (await two.read(name="doc")).body in bodies
    assert len(await parts(single_node)) == 2


# -- changes by users, and crashes -------------------------------------------------------------------------------------


async def test_a_revision_with_a_missing_part_is_refused_with_a_remedy(single_node: Node) -> None:
    async with opened(single_node) as store:
        await store.replace(name="doc", body=b"small", expected=0)
        await store.replace(name="doc", body=os.urandom(500_000), expected=1)
    single_node.docker("config", "rm", (await parts(single_node))[0])
    async with opened(single_node) as store:
        with pytest.raises(errors.Refused, match=r"revision 2 of doc is damaged.*docker config rm infrakit-head-doc"):
            await store.read(name="doc")
        with pytest.raises(errors.InfraKitError):
            await store.history(name="doc", limit=5)
        await store.replace(name="doc", body=b"mended", expected=2)
        assert [each.revision for each in await store.history(name="doc", limit=5)] == [3, 1]
        single_node.docker("config", "rm", "infrakit-head-doc")
        assert (await store.read(name="doc")).revision == 0


@pytest.mark.parametrize("label", ["", "nonsense", '{"revisions":[]}', "other body", "no order"])
async def test_a_manually_changed_head_is_refused(single_node: Node, label: str) -> None:
    async with opened(single_node) as store, client_of(single_node) as client:
        await store.replace(name="doc", body=b"1", expected=0)
        await store.replace(name="doc", body=b"2", expected=1)
        head = next(each for each in await client.configs({"name": ["infrakit-head-doc"]}))
        text = head.labels[LABEL]
        if label == "other body":
            label = text.replace('"sha256":"', '"sha256":"00')
        elif label == "no order":
            label = text.replace('"number":2', '"number":1')
        await client.update_config_labels(head, {LABEL: label})
    async with opened(single_node) as store:
        with pytest.raises(errors.Refused, match="doc"):
            await store.read(name="doc")
        with pytest.raises(errors.Refused, match="doc"):
            await store.history(name="doc", limit=2)


async def test_a_sweep_removes_parts_of_crashes_and_a_delayed_writer_starts_again(single_node: Node) -> None:
    body = os.urandom(500_000)
    async with (
        opened(single_node) as store,
        opened(single_node, client=Delayed) as slow,
        client_of(single_node) as client,
    ):
        await store.replace(name="doc", body=b"1", expected=0)
        await client.create_config("infrakit-part-doc-left-0", labels={}, data=b"x")
        await client.create_config("infrakit-barrier-left", labels={}, data=b"x")
        Delayed.waiting.clear()
        Delayed.proceed.clear()
        writing = asyncio.ensure_future(slow.replace(name="doc", body=body, expected=1))
        await asyncio.wait_for(Delayed.waiting.wait(), DEADLINE_S)
        await store._sweep.sweep()
        assert len(await parts(single_node)) == 3, "parts that were first seen just now may have an owner"
        await store._sweep.sweep(unchanged_s=0.0)
        assert await parts(single_node) == []
        Delayed.proceed.set()
        assert await writing == 2
        assert (await store.read(name="doc")).body == body
        assert "infrakit-barrier-left" not in [each.name for each in await client.configs({})]


class Delayed(LongTimeouts):
    """Waits before it swaps a head."""

    waiting = asyncio.Event()
    proceed = asyncio.Event()

    async def update_config_labels(
        self, config: Config, labels: Mapping[str, str], *, deadline_s: float = CHANGE_S
    ) -> None:
        if config.name == "infrakit-head-doc":
            self.waiting.set()
            await self.proceed.wait()
        await super().update_config_labels(config, labels, deadline_s=deadline_s)


async def test_a_closed_store_leaves_only_its_documents(single_node: Node) -> None:
    async with opened(single_node) as store:
        await store.replace(name="doc", body=b"1", expected=0)
        await store.read(name="doc")
    async with client_of(single_node) as client:
        assert [each.name for each in await client.configs({})] == ["infrakit-head-doc"]


async def test_a_watch_continues_after_the_leader_is_killed(engines: Engines) -> None:
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


async def test_a_missing_engine_is_unreachable_with_a_remedy() -> None:
    store = SwarmStore(Swarm("unix:///nowhere/docker.sock"))
    with pytest.raises(errors.Unreachable, match=r"cannot connect: No such file or directory; start it, .* swarm:///"):
        await store.read(name="doc")
    with pytest.raises(errors.Unreachable, match="cannot connect"):
        await store.replace(name="doc", body=b"1", expected=0)
    await store.close()
