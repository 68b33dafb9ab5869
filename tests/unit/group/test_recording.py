"""A plan is not started if the declaration has changed while the ledger or the census was written for it."""

import asyncio

import pytest

from infrakit.manager.lead.census import PREFIX
from infrakit.manager.lead.ledger import NAME
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time

WRITE_S = 5.0


class SlowStore(MemoryStore):
    """A store that takes five seconds to write documents whose names begin with `slow`, if that is set."""

    slow = ""
    writing = 0

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if self.slow and name.startswith(self.slow):
            self.writing += 1
            await asyncio.sleep(WRITE_S)
        return await super().replace(name=name, body=body, expected=expected)


@in_virtual_time
async def test_creations_are_not_started_if_the_declaration_has_changed_while_they_were_recorded() -> None:
    store = SlowStore()
    async with Stage(store=store) as stage:
        await stage.replica.active.wait()
        store.slow = NAME
        await stage.commit(cattle("web", 3))
        await stage.until(lambda: store.writing)
        await stage.scale("web", 0)
        store.slow = ""
        await asyncio.sleep(60)
        assert stage.is_converged()
        assert "provision" not in stage.simulator.calls


@pytest.mark.parametrize("document", [NAME, PREFIX])
@in_virtual_time
async def test_destructions_are_not_started_if_the_declaration_has_changed_during_a_write(document: str) -> None:
    store = SlowStore()
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        await asyncio.sleep(10)
        store.slow = document
        await stage.scale("web", 2)
        await stage.until(lambda: store.writing)
        await stage.scale("web", 3)
        store.slow = ""
        await asyncio.sleep(60)
        assert stage.is_converged()
        assert "destroy" not in stage.simulator.calls
