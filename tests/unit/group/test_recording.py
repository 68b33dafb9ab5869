"""What a plan has recorded in the ledger is not started if the declaration has changed during that write."""

import asyncio

from infrakit.manager.lead.ledger import NAME
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time

WRITE_S = 5.0


class SlowLedger(MemoryStore):
    """A store that takes five seconds to write the ledger while `slow` is set."""

    slow = False
    writing = 0

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if name == NAME and self.slow:
            self.writing += 1
            await asyncio.sleep(WRITE_S)
        return await super().replace(name=name, body=body, expected=expected)


@in_virtual_time
async def test_creations_are_not_started_if_the_declaration_has_changed_while_they_were_recorded() -> None:
    store = SlowLedger()
    async with Stage(store=store) as stage:
        await stage.replica.active.wait()
        store.slow = True
        await stage.commit(cattle("web", 3))
        await stage.until(lambda: store.writing)
        await stage.scale("web", 0)
        store.slow = False
        await asyncio.sleep(60)
        assert stage.is_converged()
        assert "provision" not in stage.simulator.calls


@in_virtual_time
async def test_destructions_are_not_started_if_the_declaration_has_changed_while_they_were_recorded() -> None:
    store = SlowLedger()
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        store.slow = True
        await stage.scale("web", 2)
        await stage.until(lambda: store.writing)
        await stage.scale("web", 3)
        store.slow = False
        await asyncio.sleep(60)
        assert stage.is_converged()
        assert "destroy" not in stage.simulator.calls
