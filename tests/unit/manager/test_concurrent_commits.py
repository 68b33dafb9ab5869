"""Two commits at the same time, each of them valid alone: only one of them is accepted."""

import asyncio
import json
from typing import Any

import pytest

from infrakit.manager.declaration import changes
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.declaration.store import Declaration
from infrakit.simulation.loop import VirtualClock
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spec import document
from infrakit.spi import errors
from infrakit.spi.group import Group
from infrakit.spi.values import Allocation, Attachment, LogicalID
from infrakit.stores.memory import MemoryStore
from tests.stage import SlowValidation, Stage, in_virtual_time, pets


class OneVolume(SimulatedFlavor):
    """Every pet of every group has the same volume; validation takes a second."""

    async def validate(self, *, properties: Any, allocation: Allocation) -> None:
        await asyncio.sleep(1.0)
        await super().validate(properties=properties, allocation=allocation)

    async def attachments(self, *, properties: Any, allocation: Allocation) -> dict[LogicalID, tuple[Attachment, ...]]:
        del properties
        return {each: (Attachment(id="vol", type="volume"),) for each in allocation.logical_ids or ()}


@pytest.mark.parametrize(
    ("flavor", "ids", "what"),
    [(SlowValidation, ("a b", "b c"), "logical ID"), (OneVolume, ("a", "b"), "attachment")],
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_of_two_concurrent_commits_that_share_something_one_is_refused(
    flavor: type[SimulatedFlavor], ids: tuple[str, str], what: str, replicas: int
) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with Stage(flavor_class=flavor) as stage:
            await stage.replica.active.wait()
            other = stage
            if replicas == 2:  # a follower, whose record is as old as the leader's
                other = Stage(flavor_class=flavor, store=stage.store, simulator=stage.simulator)
                other.replica.active.set()
            results = await asyncio.gather(
                stage.commit(pets("db", ids[0])), other.commit(pets("log", ids[1])), return_exceptions=True
            )
            (refused,) = [each for each in results if isinstance(each, errors.InfraKitError)]
            assert isinstance(refused, errors.InvalidSpec)
            assert what in str(refused)
            stored = await Declaration(stage.store, VirtualClock()).load()
            assert len(stored.groups) == 1

    scenario()


def group(name: str, ids: str) -> Group:
    (found,) = document.read(json.dumps([pets(name, ids)]), source="doc").groups
    return found


async def test_a_change_that_lets_two_groups_share_a_logical_id_is_refused_in_the_compare_and_swap() -> None:
    declaration = Declaration(MemoryStore(), VirtualClock())
    about: Any = {"what": "commit", "who": "ann", "why": "a test"}
    await declaration.change(changes.declare((group("db", "a b"),)), **about)
    with pytest.raises(errors.Refused, match='"b" is a logical ID of the group "db" already'):
        await declaration.change(changes.declare((group("log", "b c"),)), **about)
    assert set(declaration.record.groups) == {"db"}


async def test_a_stored_conflict_does_not_prevent_other_changes() -> None:
    stored = DeclarationRecord(groups={each.name: each for each in (group("db", "a b"), group("log", "b c"))})
    declaration = Declaration(MemoryStore(), VirtualClock())
    await declaration._write(stored)
    await declaration.change(changes.free(group("db", "a b").name), what="free", who="ann", why="a test")
    assert set(declaration.record.groups) == {"log"}
