"""The metadata plugin: a tree of facts, addressed like files; and the tree that joins the trees of all plugins.

A path is names joined by `/`; the empty path and `.` are the root. See `spi.paths`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.repeat import repeatable
from infrakit.spi.values import Wire, absent


@runtime_checkable
class Metadata(Protocol):
    """A readable tree. Reads are cheap and change nothing."""

    @repeatable
    async def keys(self, *, path: str) -> Sequence[str] | None:
        """Return the names below `path`, sorted: an empty sequence for a value, None if the path does not exist."""
        ...

    @repeatable
    async def get(self, *, path: str) -> msgspec.Raw:
        """Return the value at `path` as JSON, also of a whole subtree; `null` if there is none."""
        ...


class Change(Wire, frozen=True, kw_only=True):
    """One value to be set."""

    path: str
    value: msgspec.Raw = msgspec.field(default_factory=absent)


class Proposal(Wire, frozen=True, kw_only=True):
    """The tree before and after a change, and the compare-and-swap key (`cas`) of the tree before it."""

    original: msgspec.Raw = msgspec.field(default_factory=absent)
    proposed: msgspec.Raw = msgspec.field(default_factory=absent)
    cas: str = ""


@runtime_checkable
class Updatable(Metadata, Protocol):
    """A tree that can also be written, by compare-and-swap in two steps."""

    @repeatable
    async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
        """Return the tree with these changes merged into it. Writes nothing."""
        ...

    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        """Write the proposal of `changes`, byte for byte. Raises `Conflict` if the tree has changed since."""
        ...


class Written(Wire, frozen=True, kw_only=True):
    """The answer to a change of a tree, given once it is durable."""

    version: int  # the current version, if nothing changed; 0 where no versions are kept


class Revision(Wire, frozen=True, kw_only=True, gc=False):
    """One version of a tree."""

    version: int
    when: str  # ISO 8601
    who: str
    why: str
    what: str  # the paths that were set and removed, without values: `set cluster/name`


@runtime_checkable
class Versioned(Protocol):
    """An `Updatable` that keeps its versions. Each change is one atomic compare-and-swap.

    `expected` is the version that the caller has read: if the tree has changed since, `Conflict` lists the changes.
    None applies the change to the newest version.
    """

    async def write(
        self, *, changes: tuple[Change, ...], remove: tuple[str, ...], who: str, why: str, expected: int | None = None
    ) -> Written:
        """Replace what is at the path of each change, and delete the paths in `remove` with all below them.

        Raises `NotFound` if a path to remove does not exist, and `Refused` if a path leads through a value.
        """
        ...

    @repeatable
    async def history(self, *, limit: int = 50) -> tuple[Revision, ...]:
        """Return the newest versions that are still kept, newest first."""
        ...

    @repeatable
    async def show(self, *, version: int) -> msgspec.Raw:
        """Return the whole tree at that version. Raises `NotFound`."""
        ...

    async def restore(self, *, version: int, who: str, why: str, expected: int | None = None) -> Written:
        """Restore the tree of an earlier version, as a new version. Raises `NotFound`."""
        ...


class Branch(Wire, frozen=True, kw_only=True):
    """One plugin in the joined tree."""

    name: str  # the first name of its paths
    state: str  # here, or away (it does not answer; `note` holds the reason)
    writable: bool = False
    versioned: bool = False
    age_s: float | None = None  # age of the last successful read
    note: str = ""


@runtime_checkable
class Tree(Protocol):
    """All metadata plugins under one root: their status, writes and versions.

    It is read as `Metadata`; the first name of a path is the name of the plugin. When a plugin does not answer, only
    its own subtree fails: reads and writes there raise `Unreachable`.
    """

    @repeatable
    async def branches(self) -> tuple[Branch, ...]:
        """Return the status of every plugin, sorted by name."""
        ...

    async def write(
        self, *, changes: tuple[Change, ...], remove: tuple[str, ...], who: str, why: str, expected: int | None = None
    ) -> Written:
        """Change the tree of one plugin; all paths must be in it. Raises `Refused` if the plugin cannot be written.

        It works like `Versioned.write`, or through `Updatable` where the plugin keeps no versions.
        """
        ...

    @repeatable
    async def history(self, *, plugin: str, limit: int = 50) -> tuple[Revision, ...]:
        """Return the newest versions of that plugin. Raises `NotFound`, and `Refused` if it keeps no versions."""
        ...

    @repeatable
    async def show(self, *, plugin: str, version: int) -> msgspec.Raw: ...

    async def restore(
        self, *, plugin: str, version: int, who: str, why: str, expected: int | None = None
    ) -> Written: ...


@runtime_checkable
class Facts(Protocol):
    """A recent snapshot of the whole tree, for templates: synchronous, safe in any thread.

    The first name of a path is the name of the plugin, the rest is inside its tree. Only `wait` blocks. When a plugin
    does not answer, only its own subtree fails: reads there raise `Unreachable`.
    """

    def keys(self, path: str) -> Sequence[str] | None:
        """Return the names below `path`, sorted: empty for a value, None if it does not exist. Raises `Unreachable`."""
        ...

    def get(self, path: str) -> object:
        """Return the plain value at `path`, also of a whole subtree. Raises `NotFound`, `Unreachable`."""
        ...

    def wait(self, path: str, timeout_s: float) -> object:
        """Return the value at `path` once it is not null. Raises `NotFound` or `Unreachable` after the timeout."""
        ...


Snapshots = Callable[[], Awaitable[Facts]]  # takes a snapshot now; cheap, because at most one is taken per cycle
