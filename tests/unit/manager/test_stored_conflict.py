"""A stored declaration that gives one logical ID to two groups: readable, and never two instances of it."""

import asyncio

import pytest

from infrakit.manager.declaration import store, validate
from infrakit.spi.event import Kind
from infrakit.spi.values import GroupID
from tests.stage import Stage, in_virtual_time, pets


@in_virtual_time
async def test_the_later_of_two_groups_with_one_logical_id_is_not_managed_until_that_is_resolved() -> None:
    with pytest.MonkeyPatch.context() as earlier_release:
        earlier_release.setattr(validate, "_shared_logical_ids", lambda *_: [])
        earlier_release.setattr(store, "conflicts", lambda _: {})
        async with Stage() as stage:
            await stage.commit(pets("db", "a b"))
            await stage.commit(pets("log", "b c"))
            await stage.until(lambda: len(stage.alive("db")) == 2)
            await asyncio.sleep(600)
            assert stage.alive("log") == {}
            status = await stage.status("log")
            assert status.phase == "unmanaged"
            assert '"b" is a logical ID of the group "db" already' in status.waiting[0].reason
            assert len([e for e in stage.events if e.type is Kind.REFUSED]) == 1
            await stage.operator.destroy(group=GroupID("db"), volumes=False, who="ann", why="merged")
            await stage.until(lambda: len(stage.alive("log")) == 2)
            await stage.converged()
