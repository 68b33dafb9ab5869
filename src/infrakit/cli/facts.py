"""The commands' client of the daemon's metadata tree, which joins the trees of all metadata plugins."""

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from infrakit.cli import daemon
from infrakit.rpc import discovery
from infrakit.spi import errors, paths
from infrakit.spi.metadata import Metadata

T = TypeVar("T")

TREE = "group/metadata"  # the object at the manager's socket
POLL_S = 0.5  # interval of `wait`


def ask(method: Callable[..., Awaitable[T]], /, **parameters: Any) -> T:
    """Call a method of the metadata tree."""
    return daemon.ask(method, name=TREE, **parameters)


class DaemonFacts:
    """Implements `spi.metadata.Facts`. Caches what it reads, so that a template sees one consistent state."""

    def __init__(self) -> None:
        self._read: dict[str, Any] = {}

    def keys(self, path: str) -> Sequence[str] | None:
        steps = paths.split(path)
        if not steps:
            return ask(Metadata.keys, path="")
        return paths.keys(paths.find(self._branch(steps[0]), steps[1:]))

    def get(self, path: str) -> object:
        steps = paths.split(path)
        if not steps:
            return read("")
        found = paths.find(self._branch(steps[0]), steps[1:])
        return found if found is not None else missing(steps)

    def wait(self, path: str, timeout_s: float) -> object:
        deadline = time.monotonic() + timeout_s
        while True:
            self._read.pop((paths.split(path) or ("",))[0], None)
            try:
                return self.get(path)
            except (errors.NotFound, errors.Unreachable):
                if time.monotonic() >= deadline:
                    raise
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))

    def _branch(self, name: str) -> Any:
        if name not in self._read:
            self._read[name] = value(name)
        return self._read[name]


class OptionalFacts:
    """Facts of the daemon if one is running; otherwise none, and the defaults of the template apply.

    A lookup of a required fact lists the existing names for its error message; that call reports that no daemon
    answers. The list of plugins is requested once, so that a template does not cause a call for each of its variables.
    """

    def __init__(self) -> None:
        self._facts = DaemonFacts()
        self._plugins: frozenset[str] | None = None

    def keys(self, path: str) -> Sequence[str] | None:
        return self._facts.keys(path)

    def get(self, path: str) -> object:
        if self._plugins is None:
            self._plugins = frozenset(_plugins())
        if not self._plugins.issuperset(paths.split(path)[:1]):
            raise errors.NotFound("there is none", where=path)
        return self._facts.get(path)

    def wait(self, path: str, timeout_s: float) -> object:
        return self._facts.wait(path, timeout_s)


def _plugins() -> Sequence[str]:
    """Return the names of the metadata plugins; none if no daemon answers."""
    where = daemon.target()
    if isinstance(where, Path) and not where.exists():  # checked without importing the RPC client
        return ()
    try:
        return ask(Metadata.keys, path="") or ()
    except discovery.NotRunning:
        return ()


def value(path: str) -> Any:
    """Return the value at a path, or None. Raises `Unreachable` for a plugin that does not answer."""
    return msgspec.json.decode(ask(Metadata.get, path=path))


def read(path: str) -> Any:
    """Return the value at a path. Raises `NotFound` with the nearest name."""
    found = value(path)
    return found if found is not None else missing(paths.split(path))


def missing(steps: Sequence[str]) -> Any:
    """Raise `NotFound` with the names that exist instead."""
    for known in range(len(steps) - 1, -1, -1):
        names = ask(Metadata.keys, path=paths.join(steps[:known]))
        if names is not None:
            raise paths.missing(steps, known, names)
    raise paths.missing(steps, 0, ())
