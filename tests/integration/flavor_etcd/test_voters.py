"""The voters of a real etcd, including members of no instance: nothing is destroyed that would cost a majority."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infrakit.flavors.etcd import EtcdFlavor
from infrakit.instances.simulator import Simulator
from infrakit.simulation.parts import FlavorFaults
from infrakit.spi import errors
from infrakit.spi.flavor import Voter
from infrakit.spi.values import GroupID
from tests.integration.etcd.members import Cluster, Member, needs_etcd, running
from tests.integration.flavor_etcd.machines import TIMEOUT_S
from tests.integration.flavor_etcd.test_leaving import NO_PROPERTIES, declared, flavor_and_cluster, instance
from tests.stage import Stage

pytestmark = [needs_etcd, pytest.mark.timeout(120)]


class RealFlavor(EtcdFlavor):
    """The flavor, where the stage expects a simulated one."""

    def __init__(self, simulator: Simulator, rng: random.Random) -> None:
        del simulator, rng
        super().__init__()
        self.faults = FlavorFaults()


def group(members: list[Member], *arguments: str) -> dict[str, Any]:
    properties = {
        "Allocation": {"LogicalIDs": [each.address for each in members]},
        "Instance": {"Plugin": "simulator", "Properties": {}},
        "Flavor": {"Plugin": "etcd", "Properties": {"ExtraArgs": list(arguments)}},
        "Updating": {"Settle": "0s"},
    }
    return {"kind": "group", "metadata": {"name": "db"}, "properties": properties}


async def until(condition: Callable[[], object], what: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S / 3):
            while not condition():  # noqa: ASYNC110 - processes set no events
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(str(what())) from None


async def add_foreign_member(cluster: Cluster, directory: Path) -> Member:
    """Add a member that is no instance of the group, and that has not started yet."""
    foreign = Member("alien", directory)
    async with asyncio.timeout(TIMEOUT_S):
        while True:  # etcd accepts it once all members have been connected for five seconds
            with contextlib.suppress(errors.InfraKitError):
                await cluster.members[0].client.change("cluster/member/add", {"peerURLs": [foreign.peer_url]})
                return foreign
            await asyncio.sleep(0.1)


async def test_voters_that_never_started_or_are_of_no_instance_are_listed(tmp_path: Path) -> None:
    async with flavor_and_cluster(3, tmp_path) as (flavor, cluster):
        await cluster.leader()
        (alien_home := tmp_path / "alien").mkdir()
        foreign = await add_foreign_member(cluster, alien_home)
        try:
            instances = [instance(each) for each in cluster.members]

            async def voters() -> dict[str, Voter]:
                listed = await flavor.voters(
                    properties=NO_PROPERTIES, instances=instances, allocation=declared(cluster.members)
                )
                return {each.address: each for each in listed}

            found = await voters()
            assert len(found) == 4
            assert found[foreign.peer_url].instances == ()
            assert found[foreign.peer_url].healthy is False
            for member in cluster.members:
                assert found[member.peer_url].instances == (instance(member).id,)
                assert found[member.peer_url].healthy is True
            await foreign.start([*cluster.members, foreign], state="existing")
            async with asyncio.timeout(TIMEOUT_S):
                while not (await voters())[foreign.peer_url].healthy:  # noqa: ASYNC110 - etcd sets no event
                    await asyncio.sleep(0.05)
        finally:
            await foreign.kill()
            await foreign.client.close()
        for member in cluster.members[1:]:
            await member.kill()
        with pytest.raises(errors.Unreachable, match="no member has a leader"):
            await voters()


async def test_a_foreign_voter_that_is_down_is_counted_before_anything_is_destroyed(tmp_path: Path) -> None:
    flavor_class: Any = RealFlavor
    async with running(3, tmp_path) as cluster:
        await cluster.leader()
        (alien_home := tmp_path / "alien").mkdir()
        foreign = await add_foreign_member(cluster, alien_home)
        stage = Stage(flavor_class=flavor_class, poll_s=0.2)
        try:
            async with stage:
                await stage.commit(group(cluster.members))
                await until(stage.is_converged, stage.recent_events)
                before = {each.id for each in stage.simulator.live()}
                await stage.commit(group(cluster.members, "--log-level=error"))  # a rolling update
                victim = min(before)
                await stage.operator.destroy_instance(instance=victim, who="ann", why="a test")

                def refused() -> list[str]:
                    return [each.reason for each in stage.controller("db").blocked if each.rule == "guard"]

                await until(lambda: any("2 of 4 listed voters" in each for each in refused()), stage.recent_events)
                cycles = stage.controller("db").began_at + 2.0
                await until(lambda: stage.controller("db").began_at > cycles, stage.recent_events)
                assert {each.id for each in stage.simulator.live()} == before
                assert "destroy" not in stage.simulator.calls
                (status,) = (await stage.operator.status()).groups
                assert status.name == GroupID("db")
                assert status.quorum == "3 of 4 listed voters are healthy; the quorum can lose none of them"
                await foreign.start([*cluster.members, foreign], state="existing")
                await until(lambda: victim not in {each.id for each in stage.simulator.live()}, stage.recent_events)
        finally:
            await stage.flavor.close()  # type: ignore[attr-defined]
            await foreign.kill()
            await foreign.client.close()
