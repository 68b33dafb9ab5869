"""The original's metadata tree `status` at the manager: whether this replica leads."""

from collections.abc import Sequence

import msgspec

from infrakit.manager.lead.replica import Replica
from infrakit.spi import errors, paths
from infrakit.spi.metadata import Change, Proposal


class StatusTree:
    """Satisfies `spi.metadata.Updatable`, which the original announces for it; every write is refused."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def keys(self, *, path: str) -> Sequence[str] | None:
        return paths.keys(paths.find(self._tree, paths.split(path)))

    async def get(self, *, path: str) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(paths.find(self._tree, paths.split(path))))

    async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
        raise _read_only(changes[0].path if changes else "")

    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        del proposed, cas
        raise _read_only("")

    @property
    def _tree(self) -> dict[str, object]:
        return {"leader": self._replica.active.is_set()}


def _read_only(path: str) -> errors.Refused:
    return errors.Refused(f"readonly:{path}", where="status", remedy="write to `vars` instead")
