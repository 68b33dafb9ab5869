"""The high-water mark of the store, persisted on the replica's own disk: it detects a store restored from a backup.

A restored store has lost acknowledged writes, and repeats revision numbers from which tokens were derived. So an epoch
or version below the high-water mark is refused until an operator accepts it. The ledger then gets a new name for its
tokens, and names the ledger it replaces, so that every other replica follows the same decision.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import msgspec

from infrakit.spi import codec, errors, files

REMEDY = "restore the newer store; to continue with the older one: infrakit up --accept-store"


class Watermark(msgspec.Struct, frozen=True, kw_only=True):
    """The high-water mark: the newest epoch and version that this replica has read."""

    cluster: str = ""
    replaces: tuple[str, ...] = ()  # the ledgers that this one replaces: a store that has lost it has lost them, too
    epoch: int = 0
    version: int = 0  # of the declaration


class WatermarkGuard:
    """Checks the store against the mark. `keep` persists a new mark.

    `accept`: the operator accepts the store as it is found first, even if it is older.
    """

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
        """Whether the store is the known one and not older. False: it is not, and the operator accepts that.

        `replaces`: the ledgers that this one replaces with an operator's consent. Raises `Refused`.
        """
        mark = self.mark
        if not mark.cluster or mark.cluster in replaces:
            return True
        if cluster == mark.cluster and epoch >= mark.epoch and (version is None or version >= mark.version):
            return True
        if self._accept:
            return False
        found = f"epoch {epoch}" if version is None else f"epoch {epoch} and declaration version {version}"
        if cluster != mark.cluster:
            found = f"another ledger, {cluster}" if cluster else "no ledger"
        raise errors.Refused(
            f"it holds {found}; epoch {mark.epoch} and version {mark.version} were read from it before",
            where="store",
            remedy=REMEDY,
        )

    async def advance(self, *, cluster: str, replaces: Collection[str], epoch: int, version: int) -> None:
        """Raise the mark, if this is newer. Never fails. From then on, an older store has to be accepted again."""
        self._accept = False
        mark = Watermark(cluster=cluster, replaces=tuple(sorted(replaces)), epoch=epoch, version=version)
        if cluster == self.mark.cluster:
            mark = msgspec.structs.replace(
                mark, epoch=max(epoch, self.mark.epoch), version=max(version, self.mark.version)
            )
        await self._set(mark)

    async def follow(self, version: int) -> None:
        """Raise the version of the mark, if it is newer. The store is not checked here, so a consent remains valid."""
        if self.mark.cluster:
            await self._set(msgspec.structs.replace(self.mark, version=max(version, self.mark.version)))

    async def _set(self, mark: Watermark) -> None:
        if mark == self.mark:
            return
        self.mark = mark
        if self._keep is not None:
            await self._keep(mark)


def on_disk(path: Path, *, accept: bool = False) -> WatermarkGuard:
    """A mark persisted in a file. A damaged or unwritable file counts as no mark: it is only a safeguard."""
    mark = Watermark()
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        mark = codec.decode(path.read_bytes(), Watermark)

    async def keep(mark: Watermark) -> None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(files.replace, path, msgspec.json.encode(mark))

    return WatermarkGuard(mark, keep=keep, accept=accept)
