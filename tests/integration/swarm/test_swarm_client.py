"""The client of the Swarm, with a real Swarm: reads, changes, and the error for each refusal."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from infrakit.clients.swarm import Swarm
from infrakit.spi import errors
from tests.integration.swarm.engines import Engines, Node, needs_swarm, running

pytestmark = [needs_swarm, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """A manager, a worker, and an Engine that is in no Swarm."""
    with running(3, joined=False) as engines:
        manager, worker, _ = engines.nodes
        manager.init()
        worker.join(manager, role="worker")
        yield engines


@pytest.fixture
async def swarm(engines: Engines) -> AsyncIterator[Swarm]:
    client = Swarm(engines.nodes[0].host)
    yield client
    await client.close()


async def error_of_listing(node: Node) -> errors.InfraKitError:
    """The error of an Engine that cannot list the nodes."""
    client = Swarm(node.host)
    try:
        with pytest.raises(errors.InfraKitError) as caught:
            await client.nodes()
        return caught.value
    finally:
        await client.close()


async def test_the_membership_that_an_engine_reports(engines: Engines, swarm: Swarm) -> None:
    manager, worker, other = engines.nodes
    reported = await swarm.info()
    assert (reported.node_id, reported.state, reported.control, reported.addr) == (
        manager.id,
        "active",
        True,
        manager.address,
    )
    assert (reported.managers, reported.nodes, reported.manager_count) == ((f"{manager.address}:2377",), 2, 1)
    for node, state in ((worker, "active"), (other, "inactive")):
        client = Swarm(node.host)
        reported = await client.info()
        assert (reported.state, reported.control, reported.node_id) == (state, False, node.id)
        await client.close()


async def test_an_engine_that_is_not_a_manager_is_refused(engines: Engines) -> None:
    for node in engines.nodes[1:]:
        error = await error_of_listing(node)
        assert isinstance(error, errors.Refused)
        assert "this node is not a manager of a Swarm" in str(error)


async def test_nodes_are_listed_and_updated_by_compare_and_swap(engines: Engines, swarm: Swarm) -> None:
    found = {each.hostname: each for each in await swarm.nodes()}
    assert found["n1"].manager is not None
    assert (found["n1"].manager.leader, found["n1"].manager.reachability) == (True, "reachable")
    worker = found["n2"]
    assert (worker.role, worker.manager, worker.state, worker.id) == ("worker", None, "ready", engines.nodes[1].id)
    await swarm.update_node(worker.id, worker.version, labels={"rack": "a"})
    changed = await swarm.node(worker.id)
    assert (changed.labels, changed.availability, changed.role) == ({"rack": "a"}, "active", "worker")
    with pytest.raises(errors.Conflict):
        await swarm.update_node(worker.id, worker.version, availability="drain")
    await swarm.update_node(worker.id, changed.version, availability="drain")
    drained = await swarm.node(worker.id)
    assert (drained.labels, drained.availability) == ({"rack": "a"}, "drain")
    with pytest.raises(errors.Refused):
        await swarm.remove_node(worker.id)  # it is up
    with pytest.raises(errors.NotFound):
        await swarm.node("nobody")


async def test_the_cluster_is_updated_and_its_join_tokens_are_not_shown(engines: Engines, swarm: Swarm) -> None:
    seen = await swarm.cluster()
    assert seen.join_tokens.worker == engines.nodes[0].docker("swarm", "join-token", "-q", "worker")
    assert seen.join_tokens.worker not in repr(seen)
    await swarm.update_cluster(seen.version, {**seen.spec, "Labels": {"a": "b"}}, rotate_worker=True)
    now = await swarm.cluster()
    assert now.labels == {"a": "b"}
    assert now.join_tokens.worker != seen.join_tokens.worker
    assert now.join_tokens.manager == seen.join_tokens.manager
    with pytest.raises(errors.Conflict):
        await swarm.update_cluster(seen.version, seen.spec)


async def test_configs_are_created_once_and_relabelled_by_compare_and_swap(swarm: Swarm) -> None:
    config_id = await swarm.create_config("one", labels={"kind": "test"}, data=b"\x00\xff")
    config = await swarm.config(config_id)
    assert (config.name, config.labels, config.data) == ("one", {"kind": "test"}, b"\x00\xff")
    with pytest.raises(errors.Conflict):
        await swarm.create_config("one", labels={}, data=b"x")
    await swarm.update_config_labels(config, {"kind": "other"})
    with pytest.raises(errors.Conflict):
        await swarm.update_config_labels(config, {})
    assert [each.id for each in await swarm.configs({"label": ["kind=other"]})] == [config_id]
    assert await swarm.configs({"label": ["kind=test"]}) == []
    with pytest.raises(errors.Refused, match="too large"):
        await swarm.create_config("giant", labels={"x": "y" * 2_000_000}, data=b"x")
    await swarm.remove_config(config_id)
    with pytest.raises(errors.NotFound):
        await swarm.config(config_id)


async def test_services_and_their_tasks_are_counted(engines: Engines, swarm: Swarm) -> None:
    engines.nodes[0].docker("service", "create", "-d", "--no-resolve-image", "--replicas", "2", "--name", "web", "none")
    assert await swarm.services() == 1
    tasks = await swarm.tasks({"service": ["web"]})
    assert [task.desired for task in tasks] == ["running", "running"]


async def test_events_of_the_swarm_are_received(swarm: Swarm) -> None:
    events = swarm.events({"scope": ["swarm"], "type": ["config"]})
    receiving = asyncio.ensure_future(anext(events))
    async with asyncio.timeout(60):
        for number in itertools.count():  # nothing shows when the stream has started
            config_id = await swarm.create_config(f"heard-{number}", labels={}, data=b"x")
            if receiving in (await asyncio.wait([receiving], timeout=0.2))[0]:
                break
    event = receiving.result()
    assert (event["Type"], event["Action"], bool(config_id)) == ("config", "create", True)
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_timeout_is_unreachable_for_reads_and_an_unknown_outcome_for_changes(engines: Engines) -> None:
    manager = engines.nodes[0]
    client = Swarm(manager.host)
    seen = await client.cluster()
    manager.pause()
    try:
        with pytest.raises(errors.Unreachable):
            await client.nodes(deadline_s=0.2)
        with pytest.raises(errors.OutcomeUnknown):
            await client.update_cluster(seen.version, seen.spec, deadline_s=0.2)
    finally:
        manager.resume()
        await client.close()
