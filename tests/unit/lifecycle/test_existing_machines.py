"""What bootstrap concludes from the machines that exist: nothing from a listing that contradicts itself."""

import asyncio
from typing import Any

import pytest

from infrakit.instances.simulator import Faults, Simulator
from infrakit.manager.declaration.store import Declaration
from infrakit.spi import errors, values
from infrakit.spi.values import InstanceSpec, LogicalID
from tests.stage import in_virtual_time
from tests.unit.lifecycle.test_first_machine import Cluster


async def provision(cluster: Cluster, name: str, token: str) -> None:
    tags = {values.TAG_GROUP: "etcd", values.TAG_LOGICAL_ID: name, values.TAG_TOKEN: token}
    await cluster.simulator.provision(spec=InstanceSpec(tags=tags, logical_id=LogicalID(name)))


@pytest.mark.parametrize(
    ("token", "adopted"),
    [("bootstrap-1f/etcd/a/7", ("bootstrap-1f",)), ("c1/etcd/a/7", ()), ("bootstrap/etcd/a/7", ())],
)
@in_virtual_time
async def test_only_the_machine_of_a_bootstrap_is_adopted_with_its_cluster(
    token: str, adopted: tuple[str, ...]
) -> None:
    """Any other cluster name is that of a ledger, and so of another installation, or of this one already."""
    cluster = Cluster()
    cluster.store.needs = 2
    await provision(cluster, "a", token)
    asyncio.get_running_loop().call_later(5.0, setattr, cluster.store, "needs", 1)
    assert await cluster.bootstrap() == 1
    assert (await Declaration(cluster.store, cluster.clock).load()).adopted == adopted


@in_virtual_time
async def test_no_machine_is_requested_while_the_store_answers() -> None:
    cluster = Cluster()
    await cluster.bootstrap()
    cluster.simulator.faults = Faults(down=True)
    assert await cluster.bootstrap() == 1


class ListsTwice(Simulator):
    """A provider whose listing has each machine twice."""

    async def describe_instances(self, **about: Any) -> Any:
        return [*await super().describe_instances(**about)] * 2


@in_virtual_time
async def test_a_listing_with_a_machine_twice_is_an_error() -> None:
    cluster = Cluster()
    cluster.simulator = cluster.store.simulator = ListsTwice(random=cluster.rng)
    cluster.store.needs = 2
    await provision(cluster, "a", "c1/etcd/a/7")
    with pytest.raises(errors.PluginError, match="has the instance sim-1 twice"):
        await cluster.bootstrap()
    assert cluster.simulator.calls["provision"] == 1
