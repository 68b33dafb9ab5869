"""The metadata plugin `swarm`, on a manager, on a worker, and on a machine whose Engine is in no Swarm."""

import json
from typing import Any

import pytest

from infrakit.metadata.swarm import SwarmFacts
from tests.integration.flavor_swarm.machines import Cluster, Machine, missing_requirement

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(missing_requirement()), reason=missing_requirement()),
]


async def facts(machine: Machine) -> Any:
    plugin = SwarmFacts(socket=machine.socket)
    try:
        return json.loads(bytes(await plugin.get(path="")))
    finally:
        await plugin.close()


async def test_the_metadata_of_a_manager_a_worker_and_an_unjoined_engine(swarm: Cluster) -> None:
    (a,) = await swarm.bootstrap(1)
    worker, unjoined = swarm.machine(), swarm.machine()
    swarm.workers.declared = [worker]
    await swarm.workers.create(worker)
    await swarm.workers.converge()
    unjoined.start()
    address = f"{a.address}:2377"
    reported = await facts(a)
    cluster = await swarm.client().cluster()
    assert (reported["id"], reported["self"]) == (cluster.id, a.id)
    assert reported["leader"] == {"id": a.id, "address": address}
    assert reported["managers"] == [address]
    assert reported["nodes"][worker.id]["group"] == "workers"
    assert reported["nodes"][a.id]["logical_id"] == a.address
    assert reported["counts"] == {"nodes": 2, "ready": 2, "managers": 1, "reachable": 1, "workers": 1, "services": 0}
    text = json.dumps(reported)
    assert cluster.join_tokens.worker not in text
    assert cluster.join_tokens.manager not in text
    assert await facts(worker) == {"self": worker.id, "managers": [address]}
    assert await facts(unjoined) == {}
