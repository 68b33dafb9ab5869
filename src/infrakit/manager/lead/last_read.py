"""What a replica read from its store last, on its own disk: the declaration with its halts, and the ledger.

It is for operators, while the store does not answer after a restart. No decision depends on it, because another replica
may have changed everything since.
"""

import asyncio
import contextlib
from pathlib import Path

import msgspec

from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.lead.ledger import LedgerDocument
from infrakit.spi import codec, files, formats
from infrakit.spi.clock import Clock
from infrakit.spi.event import timestamp, to_the_second
from infrakit.spi.values import Wire

LAST_READ = "last-read.json"  # in the home of a replica
REFRESH_S = 60.0  # after which an unchanged document is written again with its new time


class LastRead(Wire, frozen=True, kw_only=True):
    """The stored document."""

    format: int = formats.FORMAT
    at: str  # ISO 8601, by the clock of this replica
    version: int  # of the declaration
    declaration: DeclarationRecord
    ledger: LedgerDocument = LedgerDocument()

    @property
    def sentence(self) -> str:
        """When what was read, for people."""
        groups = ", ".join(sorted(self.declaration.groups)) or "none"
        in_flight = sum(map(len, self.ledger.intents.values())) + sum(map(len, self.ledger.ending.values()))
        return (
            f"the store was last read at {to_the_second(self.at)}, before this start, and had declaration "
            f"{self.version} with the groups {groups}, epoch {self.ledger.epoch} of "
            f"{self.ledger.leader or 'no replica'}, and {in_flight} calls in flight"
        )


class LastReadFile:
    """Writes the document when it changes. `before` is what an earlier process has written, if it can be read."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self.before: LastRead | None = None
        if path is not None:
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                self.before = codec.decode(path.read_bytes(), LastRead)
        self._kept = self.before
        self._kept_at = float("-inf")

    @property
    def is_stored(self) -> bool:
        return self._path is not None

    async def keep(self, version: int, declaration: DeclarationRecord, ledger: LedgerDocument | None) -> None:
        """Write what was just read. `ledger`: None if it was not read. Never fails, and delays no call."""
        if self._path is None or not version:
            return
        kept, now = self._kept, self._clock.now()
        if ledger is None:
            ledger = kept.ledger if kept is not None else LedgerDocument()
        is_same = kept is not None and (kept.version, kept.ledger) == (version, ledger)
        if is_same and 0 <= now - self._kept_at < REFRESH_S:
            return
        self._kept = LastRead(at=timestamp(now), version=version, declaration=declaration, ledger=ledger)
        self._kept_at = now
        with contextlib.suppress(OSError):
            await asyncio.to_thread(files.replace, self._path, msgspec.json.encode(self._kept))
