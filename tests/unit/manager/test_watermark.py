"""A store that was restored from a backup is detected, and refused until an operator accepts it."""

import asyncio
from pathlib import Path

import pytest

from infrakit.manager.declaration import record
from infrakit.manager.lead.ledger import NAME
from infrakit.manager.lead.watermark import Watermark, WatermarkGuard, on_disk
from infrakit.spi import errors
from infrakit.spi.values import GroupID
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time


def copy(store: MemoryStore) -> MemoryStore:
    """A backup of the store."""
    backup = MemoryStore()
    backup._revisions = {name: list(revisions) for name, revisions in store._revisions.items()}
    return backup


async def use_store(store: MemoryStore) -> tuple[MemoryStore, Watermark]:
    """Use a store for two terms; return a backup from before the second, and the watermark of the replica."""
    watermark = WatermarkGuard()
    async with Stage(store=store, watermark=watermark) as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
    backup = copy(store)
    async with Stage(store=store, watermark=watermark) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
    return backup, watermark.mark


@in_virtual_time
async def test_the_same_store_is_accepted_after_a_restart() -> None:
    store = MemoryStore()
    _, mark = await use_store(store)
    await Stage(store=store, watermark=WatermarkGuard(mark)).replica.check_store()


@in_virtual_time
async def test_an_older_store_is_refused() -> None:
    backup, mark = await use_store(MemoryStore())
    with pytest.raises(
        errors.Refused, match=r"epoch 1 and declaration version 1; epoch 2 and version 2 were read from it before"
    ):
        await Stage(store=backup, watermark=WatermarkGuard(mark)).replica.check_store()


@in_virtual_time
async def test_a_store_that_lost_only_a_version_is_refused() -> None:
    store = MemoryStore()
    _, mark = await use_store(store)
    del store._revisions[record.NAME][-1]
    with pytest.raises(errors.Refused, match="epoch 2 and declaration version 1"):
        await Stage(store=store, watermark=WatermarkGuard(mark)).replica.check_store()


@in_virtual_time
async def test_an_empty_store_is_refused_if_there_was_data_before() -> None:
    _, mark = await use_store(MemoryStore())
    with pytest.raises(errors.Refused, match="no ledger"):
        await Stage(store=MemoryStore(), watermark=WatermarkGuard(mark)).replica.check_store()


@in_virtual_time
async def test_a_replica_does_not_lead_with_an_older_store() -> None:
    backup, mark = await use_store(MemoryStore())
    del backup._revisions[NAME]
    async with Stage(store=backup, watermark=WatermarkGuard(mark)) as stage:
        await stage.until(lambda: any("read from it before" in e.message for e in stage.events))
        assert not stage.replica.active.is_set()


@in_virtual_time
async def test_an_accepted_older_store_continues_with_new_tokens_and_other_replicas_follow() -> None:
    backup, mark = await use_store(MemoryStore())
    accepting = WatermarkGuard(mark, accept=True)
    later = Stage(store=backup, watermark=accepting)
    later.replica._random.seed("another day")
    await later.replica.check_store()
    async with later as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        assert stage.replica.term is not None
        assert stage.replica.term.ledger.epoch > mark.epoch
        names = {m.token.partition("/")[0] for m in stage.alive("web").values()}
    assert names == {accepting.mark.cluster}
    assert mark.cluster not in names
    await Stage(store=backup, watermark=WatermarkGuard(mark)).replica.check_store()


@in_virtual_time
async def test_the_consent_to_an_older_store_is_not_for_the_next_one() -> None:
    """Found by the simulation: restored a second time, the store kept its tokens, and the members became foreign."""
    backup, mark = await use_store(MemoryStore())
    again = copy(backup)
    accepting = WatermarkGuard(mark, accept=True)
    await Stage(store=backup, watermark=accepting).replica.check_store()
    with pytest.raises(errors.Refused, match="read from it before"):
        await Stage(store=again, watermark=accepting).replica.check_store()


@in_virtual_time
async def test_a_second_empty_store_still_gets_the_names_of_all_earlier_ledgers() -> None:
    """Found by the simulation: the members of the first were instances of another cluster, and created again."""
    _, mark = await use_store(MemoryStore())
    watermark, names = WatermarkGuard(mark), {mark.cluster}
    for day in range(2):
        watermark = WatermarkGuard(watermark.mark, accept=True)
        later = Stage(store=MemoryStore(), watermark=watermark)
        later.replica._random.seed(f"day {day}")
        await later.replica.check_store()
        assert names <= {*(await later.replica.peek()).replaces}
        names.add(watermark.mark.cluster)
    assert len(names) == 3


@in_virtual_time
async def test_a_command_before_the_store_is_checked_does_not_use_up_the_consent() -> None:
    """Found by the simulation: the replica then refused the store that its operator had accepted."""
    backup, mark = await use_store(MemoryStore())
    later = Stage(store=backup, watermark=WatermarkGuard(mark, accept=True))
    await later.operator.scale(group=GroupID("web"), size=3, who="ann", why="a test")
    await later.replica.check_store()
    assert mark.cluster in (await later.replica.peek()).replaces


def test_the_watermark_is_stored_on_disk(tmp_path: Path) -> None:
    asyncio.run(on_disk(tmp_path / "seen").advance(cluster="c", replaces=("b",), epoch=3, version=5))
    asyncio.run(on_disk(tmp_path / "seen").advance(cluster="c", replaces=("b",), epoch=2, version=6))
    assert on_disk(tmp_path / "seen").mark == Watermark(cluster="c", replaces=("b",), epoch=3, version=6)


def test_a_damaged_watermark_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "seen").write_bytes(b"{")
    assert on_disk(tmp_path / "seen").mark == Watermark()


def test_an_unwritable_watermark_file_is_no_failure(tmp_path: Path) -> None:
    asyncio.run(on_disk(tmp_path / "no" / "seen").advance(cluster="c", replaces=("b",), epoch=3, version=5))


@pytest.mark.parametrize(
    ("cluster", "replaces", "epoch", "version", "accepted"),
    [
        ("a", (), 5, 7, True),
        ("a", (), 6, 8, True),
        ("a", (), 5, None, True),
        ("a", (), 4, 9, False),
        ("a", (), 9, 6, False),
        ("b", (), 9, 9, False),  # another store, however new it is
        ("", (), 9, 9, False),
        ("b", ("a",), 1, 1, True),  # another replica has accepted it
    ],
)
def test_only_the_known_store_is_accepted_and_one_that_replaces_it(
    cluster: str, replaces: tuple[str, ...], epoch: int, version: int | None, *, accepted: bool
) -> None:
    guard = WatermarkGuard(Watermark(cluster="a", epoch=5, version=7))
    if accepted:
        assert guard.accepts(cluster=cluster, replaces=replaces, epoch=epoch, version=version)
    else:
        with pytest.raises(errors.Refused):
            guard.accepts(cluster=cluster, replaces=replaces, epoch=epoch, version=version)
    by_operator = WatermarkGuard(guard.mark, accept=True)
    assert by_operator.accepts(cluster=cluster, replaces=replaces, epoch=epoch, version=version) is accepted
