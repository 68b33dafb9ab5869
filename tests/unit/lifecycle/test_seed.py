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
from infrakit.spi.values import Allocation, Index, InstanceSpec
from tests.stage import Stage, cattle, in_virtual_time, pets

QUORUM = pets("etcd", "a b c", quorum=True, volumes=True)


class Telling(SimulatedFlavor):
    """Its boot script tells what the flavor was told."""

    async def prepare(
        self, *, properties: Any, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        made = await super().prepare(properties=properties, spec=spec, allocation=allocation, index=index)
        told = {"allocation": allocation.logical_ids or allocation.size, "index": index.sequence}
        return InstanceSpec(
            **{name: getattr(made, name) for name in made.__struct_fields__} | {"init": json.dumps(told)}
        )


async def prepared(*groups: dict[str, Any], group: str = "", **choice: Any) -> PreparedMachine:
    rng = random.Random(1)
    simulator = Simulator(random=rng)
    flavor = Telling(simulator, rng)
    flavor.faults = FlavorFaults()
    plan = BootstrapRequest(
        text=json.dumps(groups), source="doc", who="ann", why="", group=group, seed=SeedChoice(**choice)
    )
    made = await first_machine.prepare(plan, plugins=Plugins(simulator, flavor), clock=loop.VirtualClock())
    assert not simulator.machines, "nothing is made"
    return made


@in_virtual_time
async def test_the_first_pet_is_prepared_as_if_it_were_alone_and_to_be_adopted() -> None:
    made = await prepared(QUORUM)
    assert (made.group.name, made.node.logical_id, made.spec.logical_id) == ("etcd", "a", "a")
    assert json.loads(made.spec.init) == {"allocation": ["a"], "index": 1}
    tags = made.spec.tags or {}
    assert tags[values.TAG_HASH] == values.BOOTSTRAP
    assert (tags[values.TAG_GROUP], tags[values.TAG_LOGICAL_ID]) == ("etcd", "a")
    assert [each.id for each in made.spec.attachments or ()] == ["vol-a"]


@in_virtual_time
@pytest.mark.parametrize("choice", [{"logical_id": "b"}, {"sequence": 2}, {"logical_id": "b", "sequence": 2}])
async def test_another_pet_may_be_the_first(choice: dict[str, Any]) -> None:
    made = await prepared(QUORUM, **choice)
    assert json.loads(made.spec.init) == {"allocation": ["b"], "index": 2}


@in_virtual_time
async def test_cattle_may_be_first_when_nothing_else_is_declared() -> None:
    made = await prepared(cattle("web", 3), sequence=2)
    assert json.loads(made.spec.init) == {"allocation": 3, "index": 2}
    assert (made.spec.tags or {})[values.TAG_SLOT] == "2"
    assert made.spec.logical_id is None


@in_virtual_time
@pytest.mark.parametrize(
    ("groups", "asked", "said"),
    [
        ((QUORUM,), {"logical_id": "x"}, "group etcd: no node with the logical ID x; its nodes: a, b, c"),
        ((QUORUM,), {"logical_id": "a", "sequence": 2}, "the logical ID a and the number 2"),
        ((cattle("web", 2),), {"sequence": 3}, "no node with the number 3; its nodes: 1, 2"),
        ((cattle("web", 2), cattle("api", 2)), {}, "name the one with the store: --group, one of web, api"),
        ((QUORUM,), {"group": "nope"}, "there is no group 'nope'"),
    ],
)
async def test_who_is_first_must_be_there(groups: Any, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        await prepared(*groups, **asked)
    assert said in str(refused.value)


@in_virtual_time
async def test_whoever_leads_first_adopts_the_seed_as_it_is() -> None:
    made = await prepared(QUORUM)
    async with Stage() as stage:
        seed = await stage.simulator.provision(spec=made.spec)
        await stage.commit(QUORUM)
        await stage.converged()
        machines = {str(each.logical_id): each for each in stage.simulator.machines.values() if each.lives}
        assert sorted(machines) == ["a", "b", "c"]
        assert machines["a"].id == seed, "nothing took its place"
        assert {each.tags[values.TAG_HASH] for each in machines.values()} == {made.group.hash}
