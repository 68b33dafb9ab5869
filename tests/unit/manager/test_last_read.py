"""What was read from the store last is shown while the store does not answer after a restart, and never acted on."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from infrakit.instances.simulator import Simulator
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.lead.last_read import LastReadFile
from infrakit.manager.lead.ledger import LedgerDocument
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from infrakit.spi.store import Document
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle

LATE_S = 60.0


class Silent:
    """A store that does not answer."""

    async def read(self, *, name: str) -> Document:
        raise errors.Unreachable(f"no answer for {name}")

    async def newest(self, *, name: str) -> int:
        raise errors.Unreachable(f"no answer for {name}")

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        raise errors.Unreachable(f"no answer for {name} and {head}")

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        raise errors.Unreachable(f"no answer for {name}: {len(body)} bytes after {expected}")

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        raise errors.Unreachable(f"no answer for {limit} of {name}")

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        yield await self.newest(name=name)

    async def close(self) -> None:
        pass


async def test_a_restarted_replica_shows_the_last_halt_and_acts_on_nothing(tmp_path: Path) -> None:
    clock, path = SystemClock(), tmp_path / "last-read.json"
    store, simulator = MemoryStore(), None
    async with Stage(store=store, clock=clock, poll_s=0.1, last_read=LastReadFile(path, clock)) as stage:
        simulator = stage.simulator
        await stage.commit(cattle("web", 2))
        await stage.converged(within_s=LATE_S)
        await stage.operator.halt(group=None, who="bob", why="the wrong rack")
        await stage.until(lambda: (last := LastReadFile(path, clock).before) and last.declaration.halt, LATE_S)
        before = LastReadFile(path, clock).before
        assert stage.replica.last_read is None
    assert before is not None
    assert before.ledger.leader == "stage"
    await _shows(simulator, LastReadFile(path, clock))
    assert LastReadFile(path, clock).before == before


async def _shows(simulator: Simulator, last_read: LastReadFile) -> None:
    for instance in list(simulator.machines):
        simulator.kill(instance)
    calls = dict(simulator.calls)
    async with Stage(
        store=Silent(), clock=SystemClock(), poll_s=0.1, simulator=simulator, last_read=last_read
    ) as stage:
        await stage.until(lambda: "no answer" in stage.replica.why_not_active, LATE_S)
        status = await stage.operator.status()
        assert [(halt.who, halt.why) for halt in status.halts] == [("bob", "the wrong rack")]
        assert "no answer for declaration; the store was last read at 2" in status.note
        assert "before this start, and had declaration 2 with the groups web, epoch 1 of stage, and 0" in status.note
        assert (status.leader, status.version, status.groups) == (False, 0, ())
        assert stage.replica.declaration.record == DeclarationRecord()
        assert simulator.calls == calls


async def test_a_replica_that_has_read_the_store_shows_nothing_older(tmp_path: Path) -> None:
    clock = SystemClock()
    kept = LastReadFile(tmp_path / "last", clock)
    await kept.keep(7, DeclarationRecord(), LedgerDocument(epoch=3))
    async with Stage(clock=clock, last_read=LastReadFile(tmp_path / "last", clock)) as stage:
        await stage.until(stage.replica.active.is_set, LATE_S)
        assert "last read" not in (await stage.operator.status()).note
        await stage.commit(cattle("web", 1))
        assert stage.replica.last_read is None


async def test_an_unchanged_document_is_written_again_after_a_minute_only(tmp_path: Path) -> None:
    class At:
        at = 1000.0

        def now(self) -> float:
            return self.at

    clock, path = At(), tmp_path / "last"
    kept = LastReadFile(path, clock)
    await kept.keep(1, DeclarationRecord(), LedgerDocument(epoch=3))
    written = path.stat().st_ino
    await kept.keep(1, DeclarationRecord(), None)
    assert path.stat().st_ino == written
    clock.at += 61
    await kept.keep(1, DeclarationRecord(), None)
    last = LastReadFile(path, clock).before
    assert last is not None
    assert (last.at, last.ledger.epoch) == ("1970-01-01T00:17:41.000000Z", 3)
    await kept.keep(2, DeclarationRecord(), None)
    last = LastReadFile(path, clock).before
    assert last is not None
    assert last.version == 2


async def test_a_file_that_cannot_be_read_or_written_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "last").write_text("{")
    assert LastReadFile(tmp_path / "last", SystemClock()).before is None
    await LastReadFile(tmp_path / "missing" / "last", SystemClock()).keep(1, DeclarationRecord(), None)
