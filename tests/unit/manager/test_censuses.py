"""The documents of the censuses: one leader writes them, and an older one cannot any more."""

from typing import NamedTuple

import pytest

from infrakit.gate.census import Census, KnownMember
from infrakit.manager.lead.census import Censuses, name
from infrakit.spi import errors
from infrakit.spi.values import Epoch, GroupID, InstanceID
from infrakit.stores.memory import MemoryStore
from tests.stage import in_virtual_time

DB = GroupID("db")


class Term(NamedTuple):
    """What a census needs of a ledger."""

    epoch: Epoch
    cluster: str = "c0ffee"


def known(*ids: str) -> Census:
    return Census(provider="simulator", members=tuple(KnownMember(id=InstanceID(each)) for each in ids))


def ids(census: Census) -> list[str]:
    return [member.id for member in census.members]


def censuses(store: MemoryStore, epoch: int, cluster: str = "c0ffee") -> Censuses:
    return Censuses(store, Term(Epoch(epoch), cluster))


class LosesReplies(MemoryStore):
    """A store that writes, and whose reply is lost."""

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        await super().replace(name=name, body=body, expected=expected)
        raise errors.OutcomeUnknown("connection reset")


class LosesWrites(MemoryStore):
    """A store whose write and reply are lost."""

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        del name, body, expected
        raise errors.OutcomeUnknown("connection reset")


@in_virtual_time
async def test_the_next_leader_reads_what_the_previous_one_wrote() -> None:
    store = MemoryStore()
    first = censuses(store, 1)
    assert await first.open(DB) == Census()
    await first.write(DB, known("a", "b"))
    assert ids(await censuses(store, 2).open(DB)) == ["a", "b"]


@in_virtual_time
async def test_an_older_leader_cannot_write_after_a_newer_one_has_read() -> None:
    store = MemoryStore()
    first, second = censuses(store, 1), censuses(store, 2)
    await first.open(DB)
    await second.open(DB)
    with pytest.raises(errors.NotLeader):
        await first.write(DB, known("a"))
    with pytest.raises(errors.NotLeader):
        await censuses(store, 1).open(DB)
    await second.write(DB, known("b"))
    assert ids(await censuses(store, 3).open(DB)) == ["b"]


@in_virtual_time
async def test_a_write_whose_reply_was_lost_counts() -> None:
    store = LosesReplies()
    term = censuses(store, 1)
    await term.open(DB)
    await term.write(DB, known("a"))
    await term.write(DB, known("a", "b"))
    assert ids(await censuses(store, 2).open(DB)) == ["a", "b"]


@in_virtual_time
async def test_a_write_that_was_lost_is_an_error_that_is_retried() -> None:
    with pytest.raises(errors.Unreachable, match="census of db"):
        await censuses(LosesWrites(), 1).open(DB)


@in_virtual_time
async def test_the_census_of_a_store_from_a_backup_does_not_count() -> None:
    store = MemoryStore()
    first = censuses(store, 7)
    await first.open(DB)
    await first.write(DB, known("a"))
    assert await censuses(store, 3, "decade").open(DB) == Census()


@in_virtual_time
async def test_a_group_that_is_not_declared_any_more_is_forgotten() -> None:
    store = MemoryStore()
    term = censuses(store, 1)
    await term.clear(DB)
    assert await store.newest(name=name(DB)) == 0
    await term.open(DB)
    await term.write(DB, known("a"))
    await term.clear(DB)
    assert ids(await censuses(store, 2).open(DB)) == []
