"""One instance for each identity, also across groups, and after instances return that were called terminated."""

import asyncio
import random
from collections.abc import Mapping, Sequence

import pytest

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.spi.errors import InfraKitError, OutcomeUnknown, Refused, Unreachable
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec
from tests.stage import Stage, in_virtual_time, pets


class LosesSight(Simulator):
    """A provider that reports some live instances as terminated: their host has lost power, and comes back later."""

    def __init__(self, **faults: object) -> None:
        super().__init__(Faults(exclusive=False, **faults), random=random.Random(3))  # type: ignore[arg-type]
        self.hidden: set[InstanceID] = set()

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listed = await super().describe_instances(tags=tags, properties=properties)
        return [each for each in listed if each.id not in self.hidden]

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        return None if instance in self.hidden else await super().inspect(instance=instance)


def bearers(provider: Simulator) -> list[str]:
    """The logical IDs of all live instances, of any group."""
    return sorted(str(each.logical_id) for each in provider.live())


@pytest.mark.parametrize(("ids", "quorum"), [("a b c d e f g h i j", False), ("a b c", True)])
@in_virtual_time
async def test_replacements_survive_the_return_of_instances_that_were_called_terminated(
    ids: str, *, quorum: bool
) -> None:
    provider, size = LosesSight(), len(ids.split())
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", ids, quorum=quorum))
        await stage.converged()
        old = {each.id for each in provider.live()}
        for instance in sorted(old):
            provider.hidden.add(instance)
            await stage.until(lambda: not stage.is_converged())
            await stage.operator.resume(group=GroupID("db"), who="ann", why="the host is lost")
            await stage.converged()
            await asyncio.sleep(61)
        replacements = {each.id for each in provider.live()} - old
        assert len(replacements) == size
        provider.hidden.clear()
        await stage.until(lambda: len(provider.live()) == size)
        assert {each.id for each in provider.live()} == replacements
        await stage.converged()
        order = [e.type for e in stage.events if e.instance in old and e.type in (Kind.DESTROYING, Kind.TERMINATED)]
        assert order[-2 * size :] == [Kind.DESTROYING, Kind.TERMINATED] * size, "one after the other"


@in_virtual_time
async def test_a_group_that_was_freed_and_is_declared_under_another_name_gets_no_second_bearers() -> None:
    provider = Simulator(Faults(exclusive=False), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.converged()
        await stage.operator.free(group=GroupID("db"), who="ann", why="renamed")
        await stage.commit(pets("renamed", "a b c"))
        await asyncio.sleep(600)
        assert bearers(provider) == ["a", "b", "c"]
        assert not stage.is_converged()
        reasons = [block.reason for block in stage.controller("renamed").plan.blocked]
        assert any("belongs to the group db" in each for each in reasons)
        for machine in provider.live():
            provider.kill(machine.id)
        await stage.converged()
        assert set(stage.alive("renamed")) == {"a", "b", "c"}


@in_virtual_time
async def test_a_logical_id_that_moves_to_another_group_waits_for_its_bearer() -> None:
    provider = Simulator(Faults(exclusive=False, destroy=Spread(low=30.0, high=30.0)), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.converged()
        await stage.commit(pets("db", "c"), pets("moved", "a b"))
        while not stage.is_converged():
            await asyncio.sleep(0.5)
            found = bearers(provider)
            assert len(found) == len(set(found))
        assert set(stage.alive("moved")) == {"a", "b"}


class RefusesCreations(LosesSight):
    """It also answers creations with an error, without effect, as long as it has one."""

    error: InfraKitError | None = None

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        if self.error is not None:
            self.calls["failed"] = self.calls.get("failed", 0) + 1
            raise self.error
        return await super().provision(spec=spec)


@pytest.mark.parametrize("error", [Unreachable("down"), Refused("no"), OutcomeUnknown("reset")], ids=type)
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("quorum", [True, False])
@in_virtual_time
async def test_a_creation_is_not_retried_beside_an_instance_that_has_returned(
    error: InfraKitError, *, tokens: bool, quorum: bool
) -> None:
    """It was reported as terminated, and returns while the creation of its replacement waits for a retry."""
    provider = RefusesCreations(tokens=tokens)
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c", quorum=quorum))
        await stage.converged()
        old = next(each for each in provider.live() if each.logical_id == "a")
        provider.error = error
        provider.hidden.add(old.id)
        await stage.until(lambda: provider.calls.get("failed"))
        provider.hidden.clear()
        await asyncio.sleep(10)
        provider.error = None
        await stage.converged()
        await asyncio.sleep(300)
        assert bearers(provider) == ["a", "b", "c"]
        assert old.lives, stage.recent_events()
        assert provider.calls["provision"] == 3
