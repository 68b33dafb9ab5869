"""What this replica has seen of its store, kept on its own disk, so that one restored from a backup is noticed.

A store that goes back forgets what was acknowledged, and repeats revision numbers that tokens were made of. So an
older epoch or version than was seen is refused until an operator accepts it; the ledger then gets a new name for its
tokens, and names the one it replaces, so that every other replica follows the same decision.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import msgspec

from infrakit.spi import errors

REMEDY = "bring back what was there; to go on with what is there now: infrakit up --accept-store"


class Watermark(msgspec.Struct, frozen=True, kw_only=True):
    """The newest of each that was seen."""

    cluster: str = ""
    epoch: int = 0
    version: int = 0  # of the declaration


class WatermarkGuard:
    """The mark, given to `keep` whenever it has changed; `accept`: an operator says that an older store is meant."""

    def __init__(
        self,
        mark: Watermark | None = None,
        *,
        keep: Callable[[Watermark], Awaitable[None]] | None = None,
        accept: bool = False,
    ) -> None:
        self.mark = mark or Watermark()
        self._keep = keep
        self._accept = accept

    def accepts(self, *, cluster: str, replaces: Collection[str], epoch: int, version: int | None = None) -> bool:
        """Whether the store is the one that was seen, no older. False: it is not, and an operator accepts that.

        `replaces`: ledgers in whose place this one came, with an operator's consent. Raises `Refused`.
        """
        mark = self.mark
        if not mark.cluster or mark.cluster in replaces:
            return True
        if cluster == mark.cluster and epoch >= mark.epoch and (version is None or version >= mark.version):
            return True
        if self._accept:
            return False
        found = f"epoch {epoch}" if version is None else f"epoch {epoch} and version {version} of the declaration"
        if cluster != mark.cluster:
            found = f"another ledger, {cluster}" if cluster else "no ledger"
        raise errors.Refused(
            f"it holds {found}; epoch {mark.epoch} and version {mark.version} were seen here before",
            where="store",
            remedy=REMEDY,
        )

    async def advance(self, *, cluster: str, epoch: int, version: int) -> None:
        """Remember, if it is newer. Never fails."""
        mark = Watermark(cluster=cluster, epoch=epoch, version=version)
        if cluster == self.mark.cluster:
            mark = Watermark(
                cluster=cluster, epoch=max(epoch, self.mark.epoch), version=max(version, self.mark.version)
            )
        if mark == self.mark:
            return
        self.mark = mark
        if self._keep is not None:
            await self._keep(mark)


def on_disk(path: Path, *, accept: bool = False) -> WatermarkGuard:
    """Kept in a file. One that is damaged or cannot be written counts as none: it is a safeguard, not the truth."""
    mark = Watermark()
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        mark = msgspec.json.decode(path.read_bytes(), type=Watermark)

    async def keep(mark: Watermark) -> None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(_write, path, msgspec.json.encode(mark))

    return WatermarkGuard(mark, keep=keep, accept=accept)


def _write(path: Path, body: bytes) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_bytes(body)
    temporary.replace(path)
