"""One actor: only the holder of the newest epoch may act; the previous leader detects it at its next write."""

import asyncio
import math
import random
from typing import Any

import pytest

from infrakit.manager.lead.fence import BOUND_S
from infrakit.manager.lead.ledger import NAME, EpochLedger
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.spi import errors
from infrakit.spi.store import Document
from infrakit.spi.values import GroupID, Slot
from infrakit.stores.memory import MemoryStore
from tests.stage import in_virtual_time

G = GroupID("g")


class StoppedClock:
    def now(self) -> float:
        return 12.0


class LosesResponses(MemoryStore):
    """Loses the response of the next writes: after the write, or instead of it."""

    after = 0
    instead = 0

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if self.instead:
            self.instead -= 1
            raise errors.OutcomeUnknown("no answer")
        revision = await super().replace(name=name, body=body, expected=expected)
        if self.after:
            self.after -= 1
            raise errors.OutcomeUnknown("no answer")
        return revision


async def opened(store: MemoryStore, owner: str = "one", **more: Any) -> EpochLedger:
    ledger = EpochLedger(
        store,
        owner=owner,
        clock=StoppedClock(),
        random=random.SystemRandom(),
        leads_until=lambda: math.inf,
        watermark=WatermarkGuard(),
        **more,
    )
    await ledger.open()
    return ledger


def wanted(*slots: str) -> dict[Slot, str]:
    return {Slot(s): "v" for s in slots}


async def test_no_action_is_allowed_before_the_epoch_is_acquired() -> None:
    ledger = EpochLedger(
        MemoryStore(),
        owner="one",
        clock=StoppedClock(),
        random=random.SystemRandom(),
        leads_until=lambda: math.inf,
        watermark=WatermarkGuard(),
    )
    with pytest.raises(errors.NotLeader):
        ledger.check()
    await ledger.open()
    ledger.check()
    assert ledger.epoch == 1


async def test_a_new_leader_finds_the_intents_of_the_previous_leader() -> None:
    store = MemoryStore()
    first = await opened(store)
    recorded = await first.record(G, wanted=wanted("1", "2"), settled=[])
    second = await opened(store, "two")
    assert second.intents(G) == recorded
    assert second.epoch == 2


async def test_the_next_write_of_the_previous_leader_fails_and_it_may_not_act_again() -> None:
    store = MemoryStore()
    first = await opened(store)
    await opened(store, "two")
    with pytest.raises(errors.NotLeader, match="two holds epoch 2"):
        await first.record(G, wanted=wanted("1"), settled=[])
    with pytest.raises(errors.NotLeader):
        first.check()


async def test_another_leader_at_the_same_revision_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store restored from a backup may reach the known revision again, under another replica."""
    store, restored = MemoryStore(), MemoryStore()
    ledger = await opened(store)
    await opened(restored, "two")
    assert (await store.read(name=NAME)).revision == (await restored.read(name=NAME)).revision
    monkeypatch.setattr(store, "read", restored.read)
    await asyncio.sleep(2 * BOUND_S)
    with pytest.raises(errors.NotLeader, match="two holds epoch 1"):
        await ledger.prove()
    with pytest.raises(errors.NotLeader, match="two holds epoch 1"):
        ledger.check()


async def test_tokens_are_never_used_twice() -> None:
    ledger = await opened(MemoryStore())
    tokens = []
    for _ in range(3):
        recorded = await ledger.record(G, wanted=wanted("1"), settled=[Slot("1")])
        tokens.append(recorded[Slot("1")].token)
    assert len(set(tokens)) == 3


async def test_a_store_restored_within_a_term_repeats_no_token() -> None:
    """Found by the simulation: the backup had the current epoch and version, so nothing noticed that it was older."""
    store = MemoryStore()
    first = await opened(store)
    await first.record(G, wanted=wanted("2"), settled=[])
    lost = await first.record(G, wanted=wanted("1"), settled=[])
    del store._revisions[NAME][-2:]
    second = await opened(store, "two")  # its epoch takes one of the two lost revisions
    repeated = await second.record(G, wanted=wanted("1"), settled=[])
    assert repeated[Slot("1")].token != lost[Slot("1")].token


async def test_two_stores_never_create_the_same_token() -> None:
    tokens = set()
    for _ in range(2):
        recorded = await (await opened(MemoryStore())).record(G, wanted=wanted("1"), settled=[])
        tokens.add(recorded[Slot("1")].token)
    assert len(tokens) == 2


async def test_settled_intents_are_cleared_in_the_same_write() -> None:
    store = MemoryStore()
    ledger = await opened(store)
    await ledger.record(G, wanted=wanted("1", "2"), settled=[])
    before = (await store.read(name=NAME)).revision
    await ledger.record(G, wanted=wanted("3"), settled=[Slot("1")])
    assert set(ledger.intents(G)) == {"2", "3"}
    assert (await store.read(name=NAME)).revision == before + 1


async def test_concurrent_writes_of_two_groups_are_both_recorded() -> None:
    ledger = await opened(MemoryStore())
    await asyncio.gather(
        ledger.record(G, wanted=wanted("1"), settled=[]), ledger.record(GroupID("h"), wanted=wanted("1"), settled=[])
    )
    assert set(ledger.intents(G)) == set(ledger.intents(GroupID("h"))) == {"1"}


async def test_a_write_with_a_lost_response_counts_if_it_was_executed() -> None:
    store = LosesResponses()
    ledger = await opened(store)
    store.after = 1
    assert set(await ledger.record(G, wanted=wanted("1"), settled=[])) == {"1"}
    assert set(await ledger.record(G, wanted=wanted("2"), settled=[])) == {"2"}
    ledger.check()


async def test_a_write_that_was_not_executed_records_nothing_and_keeps_the_epoch() -> None:
    store = LosesResponses()
    ledger = await opened(store)
    store.instead = 1
    with pytest.raises(errors.Unreachable):
        await ledger.record(G, wanted=wanted("1"), settled=[])
    assert ledger.intents(G) == {}
    ledger.check()
    assert set(await ledger.record(G, wanted=wanted("1"), settled=[])) == {"1"}


async def test_a_term_that_has_ended_writes_nothing() -> None:
    ledger = await opened(MemoryStore())
    ledger.resign("its term has ended")
    with pytest.raises(errors.NotLeader, match="its term has ended"):
        await ledger.record(G, wanted=wanted("1"), settled=[])


async def test_a_damaged_ledger_is_refused_and_not_treated_as_empty() -> None:
    store = MemoryStore()
    await store.replace(name=NAME, body=b"{", expected=0)
    with pytest.raises(errors.Refused, match="cannot be read"):
        await opened(store)


class HangsInProofs(MemoryStore):
    """A store whose reads for a proof hang while `hangs` is set."""

    hangs = False

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        return await super().read_with(name=name, head=head)


@in_virtual_time
async def test_writes_of_the_ledger_prove_nothing_about_a_halt() -> None:
    store, bound = HangsInProofs(), list[int]()

    async def binds(version: int) -> None:
        bound.append(version)

    ledger = await opened(store, declaration="declaration", bound=binds)
    await ledger.prove()
    ledger.check()
    assert bound == [0]
    store.hangs = True
    for number in range(4):
        await ledger.record(G, wanted={Slot(f"{number}"): "v"}, settled=[])
        await asyncio.sleep(BOUND_S / 3)
    with pytest.raises(errors.NotLeader, match="not proven for"):
        ledger.check()


class SlowProofs(MemoryStore):
    """A read of the ledger with the version of the declaration takes `read_s`; its answer is from its beginning."""

    read_s = 0.0

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        found = await super().read_with(name=name, head=head)
        await asyncio.sleep(self.read_s)
        return found


@in_virtual_time
async def test_what_a_read_shows_of_the_declaration_is_as_old_as_its_request() -> None:
    store = SlowProofs()

    async def binds(_version: int) -> None:
        """Nothing to adopt."""

    ledger = await opened(store, declaration="declaration", bound=binds)
    await asyncio.sleep(1.0)
    store.read_s = 0.4 * BOUND_S
    proving = asyncio.ensure_future(ledger.prove())
    await asyncio.sleep(0.3 * BOUND_S)
    await ledger.record(G, wanted={Slot("1"): "v"}, settled=[])  # proves the epoch, and nothing about the declaration
    await proving
    ledger.check()
    await asyncio.sleep(0.65 * BOUND_S)
    with pytest.raises(errors.NotLeader, match="not proven for"):
        ledger.check()
