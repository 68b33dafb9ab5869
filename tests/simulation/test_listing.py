"""The member list of the simulated flavor: whose instance an entry is, if the provider uses an ID again."""

import asyncio
import random

import msgspec
import pytest

from infrakit.instances.simulator import Faults
from infrakit.simulation.cloud import Cloud, CloudFaults
from infrakit.simulation.listing import VotingFlavor
from infrakit.spi import values
from infrakit.spi.values import Allocation, Description, GroupID, InstanceSpec
from tests.stage import in_virtual_time

PROPERTIES = msgspec.Raw(b"{}")
GROUP = GroupID("web")


async def create(cloud: Cloud, slot: str) -> None:
    tags = {values.TAG_GROUP: GROUP, values.TAG_SLOT: slot, values.TAG_TOKEN: f"c/{GROUP}/{slot}/1"}
    await cloud.provision(spec=InstanceSpec(tags=tags, properties=PROPERTIES))


async def listed(cloud: Cloud) -> list[Description]:
    return list(await cloud.describe_instances(tags={values.TAG_GROUP: GROUP}))


async def needs(flavor: VotingFlavor, instances: list[Description]) -> set[str]:
    found = await flavor.membership(properties=PROPERTIES, instances=instances, allocation=Allocation(size=2))
    return {each.id for each in found}


@pytest.mark.parametrize("by", ["another cluster", "another party"])
@in_virtual_time
async def test_an_entry_leaves_the_list_if_its_id_is_used_again(by: str) -> None:
    cloud = Cloud(Faults(), CloudFaults(reuses_ids=True), random=random.Random(1))
    flavor = VotingFlavor(cloud, random.Random(1))
    await create(cloud, "1")
    await create(cloud, "2")
    for entry in flavor.listed(GROUP).values():
        entry.voting = True
    before = await listed(cloud)
    gone, stays = (each.id for each in before)
    cloud.kill(gone)
    assert await needs(flavor, before) == set(), "as long as a listing shows it"
    await asyncio.sleep(120.0)
    if by == "another cluster":
        assert cloud.foreign(GROUP, None) == gone
    else:
        assert cloud.adopt(tags={values.TAG_GROUP: GROUP, values.TAG_HASH: values.BOOTSTRAP}) == gone
    now = await listed(cloud)
    assert gone in {each.id for each in now}
    assert await needs(flavor, now) == {f"remove/{gone}"}
    voters = await flavor.voters(properties=PROPERTIES, instances=now, allocation=Allocation(size=2))
    assert {each.id: each.healthy for each in voters} == {gone: False, stays: True}


@in_virtual_time
async def test_an_entry_stays_on_the_list_if_its_tags_are_lost() -> None:
    cloud = Cloud(Faults(), CloudFaults(), random=random.Random(1))
    flavor = VotingFlavor(cloud, random.Random(1))
    await create(cloud, "1")
    [instance] = await listed(cloud)
    flavor.entries[instance.id].voting = True
    cloud.edit_tags(instance.id, {values.TAG_TOKEN: None})
    assert await needs(flavor, await listed(cloud)) == set()
