"""Opens the spec store and the leadership source of a replica, each from its URL.

The scheme of the URL is the name of an entry point, of the group `infrakit.stores` or `infrakit.leadership`, so that a
store from another package works like those of this one. `spi/store.py` and `spi/leadership.py` define what an entry
point must provide.
"""

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from infrakit.manager.declaration import record
from infrakit.manager.lead import ledger
from infrakit.metadata import vars as variables
from infrakit.rpc import address as addresses
from infrakit.spi import protocols
from infrakit.spi.errors import InfraKitError, InvalidSpec, PluginError, invalid
from infrakit.spi.leadership import Leadership, LeadershipFactory
from infrakit.spi.store import Store, StoreFactory

KEEP = {record.NAME: record.KEEP, ledger.NAME: ledger.KEEP, variables.NAME: variables.KEEP}  # revisions, by document
SINGLE = "static:"  # the leadership source of a single replica


class _Kind(NamedTuple):
    """A kind of object that is opened by URL."""

    group: str  # of entry points
    option: str  # of the command line
    factory: type
    opened: type


STORES = _Kind("infrakit.stores", "--store", StoreFactory, Store)
LEADERSHIP = _Kind("infrakit.leadership", "--leadership", LeadershipFactory, Leadership)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that distinguish one replica from another. The defaults are those of a single replica."""

    name: str = msgspec.field(default_factory=lambda: os.uname().nodename)  # as other replicas show it
    store: str = ""  # URL
    leadership: str = ""  # URL
    advertise: str = ""  # the address at which other replicas reach it, if not the one it listens at
    accept_store: bool = False  # also a store that is older than the high-water mark

    @property
    def is_single(self) -> bool:
        """Whether this is a single replica: no other can lead."""
        return self.leadership in ("", SINGLE)


def store(url: str, home: Path, *, keep: Mapping[str, int] = KEEP) -> Store:
    """The store at a URL; without a URL, the directory `store` in the home. Raises `InvalidSpec`, `PluginError`."""
    parts = _split(url, STORES) if url else SplitResult("file", "", str(home.absolute() / "store"), "", "")
    opened: Store = _open(parts, url, STORES, keep=keep)
    return opened


def check_store(url: str) -> None:
    """Raise `InvalidSpec` if a URL names no store. The store is not opened: its files may be on another machine."""
    if url:
        _factory(_split(url, STORES), url, STORES)


def check(place: Place) -> None:
    """Raise `InvalidSpec` if a setting has no possible meaning, before anything is opened or printed."""
    check_store(place.store)
    if place.leadership:
        _factory(_split(place.leadership, LEADERSHIP), place.leadership, LEADERSHIP)
    if place.advertise:
        advertised(place.advertise)


def leadership(url: str, name: str) -> Leadership:
    """The leadership source at a URL, for the replica of that name; without a URL, the replica always leads.

    Raises `InvalidSpec`, `PluginError`.
    """
    opened: Leadership = _open(_split(url or SINGLE, LEADERSHIP), url, LEADERSHIP, name=name)
    return opened


def advertised(text: str) -> str:
    """Validate the address at which other replicas reach this one; it may be a unix socket. Raises `InvalidSpec`."""
    place = addresses.parse(text)
    if isinstance(place, Path) and not place.is_absolute():
        what = f"{text!r} is not an address at which other replicas can reach it"
        raise invalid("--advertise", what, hint="write it as https://HOST:PORT, or unix:///PATH")
    return text


async def close(leadership: Leadership) -> None:
    """Close a leadership source, if it can be closed."""
    method = getattr(leadership, "close", None)
    if method is not None:
        await method()


def _split(url: str, kind: _Kind) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _not_understood(url, kind) from None
    if parts.username or parts.password:
        raise invalid(kind.option, "a URL must not contain a password", hint=f"write it as {_forms(kind)}")
    return parts


def _open(parts: SplitResult, url: str, kind: _Kind, **arguments: Any) -> Any:
    factory = _factory(parts, url, kind)
    where = f"{kind.group} {parts.scheme}"
    try:
        opened = factory.from_url(parts, **arguments)
    except InfraKitError:
        raise
    except Exception as error:  # code of another package
        raise PluginError(f"it could not be opened: {error}", where=where) from error
    if missing := protocols.missing(opened, kind.opened):
        raise PluginError(f"it has no {', '.join(missing)}", where=where)
    return opened


def _factory(parts: SplitResult, url: str, kind: _Kind) -> Any:
    """The factory of the scheme, which accepts the URL. Raises `InvalidSpec`, `PluginError`."""
    for entry in importlib.metadata.entry_points(group=kind.group, name=parts.scheme):
        factory = _load(entry, kind)
        if factory.accepts(parts):
            return factory
    raise _not_understood(url, kind)


def _load(entry: importlib.metadata.EntryPoint, kind: _Kind) -> Any:
    where = f"{kind.group} {entry.name}"
    try:
        factory = entry.load()
    except Exception as error:  # code of another package
        raise PluginError(f"it could not be loaded: {error}", where=where) from error
    missing = [*protocols.missing(factory, kind.factory), *(() if hasattr(factory, "form") else ("form",))]
    if missing:
        raise PluginError(f"it has no {', '.join(missing)}", where=where)
    return factory


def _not_understood(url: str, kind: _Kind) -> InvalidSpec:
    return invalid(kind.option, f"{url!r} is not understood", hint=f"write it as {_forms(kind)}")


def _forms(kind: _Kind) -> str:
    """Return the forms of URLs of all installed schemes, as text."""
    forms = dict.fromkeys(_form(entry, kind) for entry in sorted(importlib.metadata.entry_points(group=kind.group)))
    *others, last = forms or ["nothing: no scheme is installed"]
    return f"{', '.join(others)}, or {last}" if others else last


def _form(entry: importlib.metadata.EntryPoint, kind: _Kind) -> str:
    try:
        return str(_load(entry, kind).form)
    except PluginError:
        return f"{entry.name}:... (which cannot be loaded)"
