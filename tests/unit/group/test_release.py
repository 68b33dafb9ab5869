"""A flavor that keeps a list of members agrees before one of them is destroyed, and is believed when it does not."""

import msgspec
import pytest

from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.values import Allocation, Description, GroupID
from tests.stage import Stage, in_virtual_time, pets


class Keeper(SimulatedFlavor):
    """Remembers whom it was asked for, and what was declared then."""

    refusal: Exception | None = None
    asked: tuple[tuple[str, tuple[str, ...]], ...] = ()

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:
        self.asked = (*self.asked, (str(instance.logical_id), tuple(allocation.logical_ids or ())))
        if self.refusal is not None:
            raise self.refusal


def keeper(stage: Stage) -> Keeper:
    assert isinstance(stage.flavor, Keeper)
    return stage.flavor


@pytest.mark.parametrize(
    "refusal", [errors.Refused("not now"), errors.OutcomeUnknown("no answer"), ValueError("a bug")]
)
@pytest.mark.parametrize("drain", [True, False])
def test_nothing_is_destroyed_before_it_agrees(refusal: Exception, drain: bool) -> None:
    @in_virtual_time
    async def story() -> None:
        async with Stage(flavor_class=Keeper) as stage:
            await stage.commit(pets("db", "a b c", quorum=True))
            await stage.converged()
            keeper(stage).refusal = refusal
            await stage.commit(pets("db", "a b", quorum=True, updating={"Drain": drain}))
            await stage.until(lambda: len(keeper(stage).asked) > 1)
            assert set(keeper(stage).asked) == {("c", ("a", "b"))}
            assert stage.alive("db").keys() == {"a", "b", "c"}
            assert any(str(refusal) in each for each in stage.messages(Kind.DESTROY_FAILED))
            assert not stage.messages(Kind.DESTROYING)
            keeper(stage).refusal = None
            await stage.converged()
            assert stage.alive("db").keys() == {"a", "b"}

    story()


@in_virtual_time
async def test_it_is_asked_for_those_who_come_back_too_but_not_when_all_go() -> None:
    async with Stage(flavor_class=Keeper) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        await stage.commit(pets("db", "a b c", quorum=True, version=1))
        await stage.converged()
        assert [name for name, _ in keeper(stage).asked] == ["a", "b", "c"]
        assert {declared for _, declared in keeper(stage).asked} == {("a", "b", "c")}
        keeper(stage).refusal = errors.Refused("never")
        await stage.operator.destroy(group=GroupID("db"), who="ann", why="a test")
        await stage.until(lambda: not stage.alive("db"))
        assert len(keeper(stage).asked) == 3
