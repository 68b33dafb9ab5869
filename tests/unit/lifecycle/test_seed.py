"""The first machine of a group: which one it is, and how it differs from every later one."""

import json
import random
from typing import Any

import pytest

from infrakit.instances.simulator import Simulator
from infrakit.lifecycle import first_machine
from infrakit.lifecycle.first_machine import BootstrapRequest, PreparedMachine
from infrakit.lifecycle.seed import SeedChoice
from infrakit.simulation import loop
from infrakit.simulation.parts import FlavorFaults, Plugins, SimulatedFlavor
from infrakit.spi import errors, values
from infrakit.spi.token import cluster_of
from infrakit.spi.values import Allocation, Index, InstanceSpec
from tests.stage import Stage, cattle, in_virtual_time, pets

QUORUM = pets("etcd", "a b c", quorum=True, volumes=True)


class ReportingFlavor(SimulatedFlavor):
    """Its boot script contains the allocation and the index that the flavor received."""

    async def prepare(
        self, *, properties: Any, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        result = await super().prepare(properties=properties, spec=spec, allocation=allocation, index=index)
        received = {"allocation": allocation.logical_ids or allocation.size, "index": index.sequence}
        return InstanceSpec(
            **{name: getattr(result, name) for name in result.__struct_fields__} | {"init": json.dumps(received)}
        )


async def prepared(*groups: dict[str, Any], group: str = "", **choice: Any) -> PreparedMachine:
    rng = random.Random(1)
    simulator = Simulator(random=rng)
    flavor = ReportingFlavor(simulator, rng)
    flavor.faults = FlavorFaults()
    plan = BootstrapRequest(
        text=json.dumps(groups), source="doc", who="ann", why="", group=group, seed=SeedChoice(**choice)
    )
    result = await first_machine.prepare(plan, plugins=Plugins(simulator, flavor), clock=loop.VirtualClock())
    assert not simulator.machines, "nothing is created"
    return result


@in_virtual_time
async def test_the_first_pet_is_prepared_as_the_only_member_and_for_adoption() -> None:
    result = await prepared(QUORUM)
    assert (result.group.name, result.node.logical_id, result.spec.logical_id) == ("etcd", "a", "a")
    assert json.loads(result.spec.init) == {"allocation": ["a"], "index": 1}
    tags = result.spec.tags or {}
    assert tags[values.TAG_HASH] == values.BOOTSTRAP
    assert (tags[values.TAG_GROUP], tags[values.TAG_LOGICAL_ID]) == ("etcd", "a")
    assert [each.id for each in result.spec.attachments or ()] == ["vol-a"]


@in_virtual_time
@pytest.mark.parametrize("choice", [{"logical_id": "b"}, {"sequence": 2}, {"logical_id": "b", "sequence": 2}])
async def test_another_pet_may_be_chosen_as_the_first(choice: dict[str, Any]) -> None:
    result = await prepared(QUORUM, **choice)
    assert json.loads(result.spec.init) == {"allocation": ["b"], "index": 2}


@in_virtual_time
async def test_cattle_may_be_the_first_if_no_other_group_is_declared() -> None:
    result = await prepared(cattle("web", 3), sequence=2)
    assert json.loads(result.spec.init) == {"allocation": 3, "index": 2}
    assert (result.spec.tags or {})[values.TAG_SLOT] == "2"
    assert result.spec.logical_id is None


@in_virtual_time
@pytest.mark.parametrize(
    ("groups", "choice", "message"),
    [
        ((QUORUM,), {"logical_id": "x"}, "group etcd: no node with the logical ID x; its nodes: a, b, c"),
        ((QUORUM,), {"logical_id": "a", "sequence": 2}, "the logical ID a and the number 2"),
        ((cattle("web", 2),), {"sequence": 3}, "no node with the number 3; its nodes: 1, 2"),
        ((cattle("web", 2), cattle("api", 2)), {}, "name the one with the store: --group, one of web, api"),
        ((QUORUM,), {"group": "nope"}, "there is no group 'nope'"),
    ],
)
async def test_the_chosen_first_machine_must_be_declared(groups: Any, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        await prepared(*groups, **choice)
    assert message in str(refused.value)


@in_virtual_time
async def test_the_first_leader_adopts_the_seed_unchanged() -> None:
    result = await prepared(QUORUM)
    async with Stage() as stage:
        seed = await stage.simulator.provision(spec=result.spec)
        await stage.replica.active.wait()
        await stage.operator.adopt(cluster=cluster_of(result.spec.tags), who="ann", why="a test")  # as `bootstrap` does
        await stage.commit(QUORUM)
        await stage.converged()
        machines = {str(each.logical_id): each for each in stage.simulator.machines.values() if each.lives}
        assert sorted(machines) == ["a", "b", "c"]
        assert machines["a"].id == seed, "it was not replaced"
        assert {each.tags[values.TAG_HASH] for each in machines.values()} == {result.group.hash}
