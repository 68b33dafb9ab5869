"""Facts of a tree in memory."""

from collections.abc import Sequence
from typing import Any

from infrakit.spi import errors
from infrakit.spi.metadata import Facts, Snapshots


class Tree:
    """Satisfies `Facts`; a branch that is an exception raises it."""

    def __init__(self, **branches: Any) -> None:
        self.branches = branches
        self.waited: list[str] = []

    def keys(self, path: str) -> Sequence[str] | None:
        try:
            found = self.get(path) if path else self.branches
        except errors.NotFound:
            return None
        return sorted(found) if isinstance(found, dict) else []

    def get(self, path: str) -> object:
        found: Any = self.branches
        for name in path.split("/"):
            if not isinstance(found, dict) or name not in found:
                raise errors.NotFound("there is none", where=path)
            found = found[name]
            if isinstance(found, Exception):
                raise found
        return found

    def wait(self, path: str, timeout_s: float) -> object:
        self.waited.append(path)
        return self.get(path)


def snapshots(tree: Facts) -> Snapshots:
    """The function that constructors accept."""

    async def take() -> Facts:
        return tree

    return take
