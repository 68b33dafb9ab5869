"""The metadata plugin `swarm`, on a manager, on a worker, and on a machine whose Engine is in no Swarm."""

import json
from typing import Any

import pytest

from infrakit.metadata.swarm import SwarmFacts
from tests.integration.flavor_swarm.machines import Cluster, Machine, lacking

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]


async def facts(machine: Machine) -> Any:
    plugin = SwarmFacts(socket=machine.socket)
    try:
        return json.loads(bytes(await plugin.get(path="")))
    finally:
        await plugin.close()


async def test_what_each_knows_of_its_swarm(swarm: Cluster) -> None:
    (a,) = await swarm.found(1)
    worker, stranger = swarm.machine(), swarm.machine()
    swarm.workers.declared = [worker]
    await swarm.workers.make(worker)
    await swarm.workers.settle()
    stranger.start()
    address = f"{a.address}:2377"
    told = await facts(a)
    cluster = await swarm.client().cluster()
    assert (told["id"], told["self"]) == (cluster.id, a.id)
    assert told["leader"] == {"id": a.id, "address": address}
    assert told["managers"] == [address]
    assert told["nodes"][worker.id]["group"] == "workers"
    assert told["nodes"][a.id]["logical_id"] == a.address
    assert told["counts"] == {"nodes": 2, "ready": 2, "managers": 1, "reachable": 1, "workers": 1, "services": 0}
    text = json.dumps(told)
    assert cluster.join_tokens.worker not in text
    assert cluster.join_tokens.manager not in text
    assert await facts(worker) == {"self": worker.id, "managers": [address]}
    assert await facts(stranger) == {}
