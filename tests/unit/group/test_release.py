"""A flavor with a member list may refuse the destruction of a member, and its refusal is respected."""

import msgspec
import pytest

from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.values import Allocation, Description, GroupID
from tests.stage import Stage, in_virtual_time, pets


class RecordsReleases(SimulatedFlavor):
    """Records the members that it was asked to release, and the logical IDs declared at that time."""

    refusal: Exception | None = None
    requests: tuple[tuple[str, tuple[str, ...]], ...] = ()

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:
        self.requests = (*self.requests, (str(instance.logical_id), tuple(allocation.logical_ids or ())))
        if self.refusal is not None:
            raise self.refusal


def flavor_of(stage: Stage) -> RecordsReleases:
    assert isinstance(stage.flavor, RecordsReleases)
    return stage.flavor


@pytest.mark.parametrize(
    "refusal", [errors.Refused("not now"), errors.OutcomeUnknown("no answer"), ValueError("a bug")]
)
@pytest.mark.parametrize("drain", [True, False])
def test_no_member_is_destroyed_before_the_flavor_releases_it(refusal: Exception, drain: bool) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor_class=RecordsReleases) as stage:
            await stage.commit(pets("db", "a b c", quorum=True))
            await stage.converged()
            flavor_of(stage).refusal = refusal
            await stage.commit(pets("db", "a b", quorum=True, updating={"Drain": drain}))
            await stage.until(lambda: len(flavor_of(stage).requests) > 1)
            assert set(flavor_of(stage).requests) == {("c", ("a", "b"))}
            assert stage.alive("db").keys() == {"a", "b", "c"}
            assert any(str(refusal) in each for each in stage.messages(Kind.DESTROY_FAILED))
            assert not stage.messages(Kind.DESTROYING)
            flavor_of(stage).refusal = None
            await stage.converged()
            assert stage.alive("db").keys() == {"a", "b"}

    scenario()


@in_virtual_time
async def test_release_is_called_for_replaced_members_but_not_when_the_group_is_destroyed() -> None:
    async with Stage(flavor_class=RecordsReleases) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        await stage.commit(pets("db", "a b c", quorum=True, version=1))
        await stage.converged()
        assert [name for name, _ in flavor_of(stage).requests] == ["a", "b", "c"]
        assert {declared for _, declared in flavor_of(stage).requests} == {("a", "b", "c")}
        flavor_of(stage).refusal = errors.Refused("never")
        await stage.operator.destroy(group=GroupID("db"), who="ann", why="a test")
        await stage.until(lambda: not stage.alive("db"))
        assert len(flavor_of(stage).requests) == 3
