"""The metadata plugin: a tree of facts, addressed like files.

A path is names joined by `/`; the empty path and `.` are the root.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.values import Wire, absent


@runtime_checkable
class Metadata(Protocol):
    """A tree that can be read. Reading is cheap, and changes nothing."""

    async def keys(self, *, path: str) -> Sequence[str] | None:
        """The names below `path`, sorted; none for a value. None: there is no such path."""
        ...

    async def get(self, *, path: str) -> msgspec.Raw:
        """The value at `path` as JSON, a whole subtree too; `null` if there is none."""
        ...


class Change(Wire, frozen=True, kw_only=True):
    """One value to be set."""

    path: str
    value: msgspec.Raw = msgspec.field(default_factory=absent)


class Proposal(Wire, frozen=True, kw_only=True):
    """What a change would make of the tree, and the key that proves it was made from what is there now."""

    original: msgspec.Raw = msgspec.field(default_factory=absent)
    proposed: msgspec.Raw = msgspec.field(default_factory=absent)
    cas: str = ""


@runtime_checkable
class Updatable(Metadata, Protocol):
    """A tree that can be written too, by compare-and-swap in two steps."""

    async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
        """What the tree would be with these changes merged into it; writes nothing."""
        ...

    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        """Write what `changes` has proposed, byte for byte. Raises `Conflict` if the tree has changed since."""
        ...


@runtime_checkable
class Facts(Protocol):
    """What was known of the whole tree a moment ago, for templates: synchronous, safe in any thread.

    The first name of a path is that of the plugin, the rest is inside its tree. Only `wait` blocks. A plugin that does
    not answer costs its own subtree only: reading there raises `Unreachable`.
    """

    def keys(self, path: str) -> Sequence[str] | None:
        """The names below `path`, sorted; none for a value. None: there is no such path. Raises `Unreachable`."""
        ...

    def get(self, path: str) -> object:
        """The plain value at `path`, a whole subtree too. Raises `NotFound`, `Unreachable`."""
        ...

    def wait(self, path: str, timeout_s: float) -> object:
        """The value at `path` once there is one other than null. Raises `NotFound` or `Unreachable` when time is up."""
        ...
