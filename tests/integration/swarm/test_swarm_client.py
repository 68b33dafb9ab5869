"""The client of the Swarm, against a real one: what is told, what is changed, and what each refusal means."""

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


async def asked(node: Node) -> errors.InfraKitError:
    """What an Engine answers that cannot know."""
    client = Swarm(node.host)
    try:
        with pytest.raises(errors.InfraKitError) as caught:
            await client.nodes()
        return caught.value
    finally:
        await client.close()


async def test_what_an_engine_knows_of_itself(engines: Engines, swarm: Swarm) -> None:
    manager, worker, other = engines.nodes
    told = await swarm.info()
    assert (told.node_id, told.state, told.control, told.addr) == (manager.id, "active", True, manager.address)
    assert (told.managers, told.nodes, told.manager_count) == ((f"{manager.address}:2377",), 2, 1)
    for node, state in ((worker, "active"), (other, "inactive")):
        client = Swarm(node.host)
        told = await client.info()
        assert (told.state, told.control, told.node_id) == (state, False, node.id)
        await client.close()


async def test_who_is_no_manager_says_so(engines: Engines) -> None:
    for node in engines.nodes[1:]:
        error = await asked(node)
        assert isinstance(error, errors.Refused)
        assert "this node is not a manager of a Swarm" in str(error)


async def test_nodes_are_listed_and_changed_from_the_version_that_was_seen(engines: Engines, swarm: Swarm) -> None:
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


async def test_the_cluster_is_changed_and_its_tokens_are_not_shown(engines: Engines, swarm: Swarm) -> None:
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


async def test_configs_are_made_once_and_relabelled_from_the_version_that_was_seen(swarm: Swarm) -> None:
    made = await swarm.create_config("one", labels={"kind": "test"}, data=b"\x00\xff")
    config = await swarm.config(made)
    assert (config.name, config.labels, config.data) == ("one", {"kind": "test"}, b"\x00\xff")
    with pytest.raises(errors.Conflict):
        await swarm.create_config("one", labels={}, data=b"x")
    await swarm.update_config_labels(config, {"kind": "other"})
    with pytest.raises(errors.Conflict):
        await swarm.update_config_labels(config, {})
    assert [each.id for each in await swarm.configs({"label": ["kind=other"]})] == [made]
    assert await swarm.configs({"label": ["kind=test"]}) == []
    with pytest.raises(errors.Refused, match="too large"):
        await swarm.create_config("giant", labels={"x": "y" * 2_000_000}, data=b"x")
    await swarm.remove_config(made)
    with pytest.raises(errors.NotFound):
        await swarm.config(made)


async def test_services_and_their_tasks_are_counted(engines: Engines, swarm: Swarm) -> None:
    engines.nodes[0].docker("service", "create", "-d", "--no-resolve-image", "--replicas", "2", "--name", "web", "none")
    assert await swarm.services() == 1
    tasks = await swarm.tasks({"service": ["web"]})
    assert [task.desired for task in tasks] == ["running", "running"]


async def test_events_of_the_swarm_are_heard(swarm: Swarm) -> None:
    events = swarm.events({"scope": ["swarm"], "type": ["config"]})
    hearing = asyncio.ensure_future(anext(events))
    async with asyncio.timeout(60):
        for number in itertools.count():  # from when on they are heard, nothing tells
            made = await swarm.create_config(f"heard-{number}", labels={}, data=b"x")
            if hearing in (await asyncio.wait([hearing], timeout=0.2))[0]:
                break
    event = hearing.result()
    assert (event["Type"], event["Action"], bool(made)) == ("config", "create", True)
    await events.aclose()  # type: ignore[attr-defined]


async def test_who_does_not_answer_in_time_is_unreachable_and_a_change_is_not_known(engines: Engines) -> None:
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
