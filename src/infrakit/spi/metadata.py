"""The metadata plugin: a tree of facts, addressed like files; and the tree that joins all of them.

A path is names joined by `/`; the empty path and `.` are the root. See `spi.paths`.
"""

from collections.abc import Awaitable, Callable, Sequence
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


class Written(Wire, frozen=True, kw_only=True):
    """The answer to a change of a tree, given once it is durable."""

    version: int  # the one before, if everything was already so; 0 where no versions are kept


class Revision(Wire, frozen=True, kw_only=True, gc=False):
    """One version of a tree."""

    version: int
    when: str  # ISO 8601
    who: str
    why: str
    what: str  # the paths that were set and removed, without values: `set cluster/name`


@runtime_checkable
class Versioned(Protocol):
    """An `Updatable` that keeps its versions: each change is one compare-and-swap, and all of it happens or nothing.

    `expected` is the version the caller has seen: if the tree has moved on, `Conflict` says what changed. None means:
    apply it to whatever is newest.
    """

    async def write(
        self, *, changes: tuple[Change, ...], remove: tuple[str, ...], who: str, why: str, expected: int | None = None
    ) -> Written:
        """Put each value in the place of what is at its path, and remove what is at the others, with all below.

        Raises `NotFound` for a path to be removed that is not there, and `Refused` for one that leads through a value.
        """
        ...

    async def history(self, *, limit: int = 50) -> tuple[Revision, ...]:
        """The newest versions that are still kept, newest first."""
        ...

    async def show(self, *, version: int) -> msgspec.Raw:
        """The whole tree as it was. Raises `NotFound`."""
        ...

    async def restore(self, *, version: int, who: str, why: str, expected: int | None = None) -> Written:
        """Make the tree what it was, as a new version. Raises `NotFound`."""
        ...


class Branch(Wire, frozen=True, kw_only=True):
    """One plugin in the joined tree."""

    name: str  # the first name of its paths
    state: str  # here, or away: it does not answer, and `note` says why
    writable: bool = False
    versioned: bool = False
    age_s: float | None = None  # of what was read last
    note: str = ""


@runtime_checkable
class Tree(Protocol):
    """All metadata plugins under one root, for those who write to it or want to know how they are.

    It is read as `Metadata`: the first name of a path is that of the plugin. A plugin that does not answer costs its
    own subtree only: reading and writing there raises `Unreachable`.
    """

    async def branches(self) -> tuple[Branch, ...]:
        """Every plugin, by name."""
        ...

    async def write(
        self, *, changes: tuple[Change, ...], remove: tuple[str, ...], who: str, why: str, expected: int | None = None
    ) -> Written:
        """Change the tree of one plugin, which all paths are in: as `Versioned` does, or by `Updatable` where no
        versions are kept. Raises `Refused` for one that cannot be written.
        """
        ...

    async def history(self, *, plugin: str, limit: int = 50) -> tuple[Revision, ...]:
        """Of that plugin. Raises `NotFound`, and `Refused` if it keeps no versions."""
        ...

    async def show(self, *, plugin: str, version: int) -> msgspec.Raw: ...

    async def restore(
        self, *, plugin: str, version: int, who: str, why: str, expected: int | None = None
    ) -> Written: ...


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


Snapshots = Callable[[], Awaitable[Facts]]  # takes one now; cheap, because it is taken once a cycle at most
