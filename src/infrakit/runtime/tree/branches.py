"""The sources of the branches of the joined tree: each is the metadata of one name, in this or another process.

A name may serve several objects, `aws/zones` beside `aws`: they are one branch, with each typed object below its type.
A branch is always read completely, so that one read serves all requests of a cycle.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from infrakit.rpc import client, discovery, interfaces
from infrakit.rpc.transport import Transport
from infrakit.runtime.registry import Registry, close
from infrakit.spi import errors
from infrakit.spi.metadata import Metadata, Snapshots, Updatable

BYTES_MAX = 16 * 1024 * 1024  # of one branch
RECONNECT_S = 30.0  # for a URL, where a restart of the process is not visible
MAIN = "."  # the object without a type


class Source(Protocol):
    """A source of plugins by type, resolved on each use; an empty mapping means that it has no metadata."""

    async def plugins(self) -> Mapping[str, Metadata]: ...

    async def close(self) -> None: ...


class InProcess(NamedTuple):
    """Plugins of this process."""

    found: Mapping[str, Metadata]

    async def plugins(self) -> Mapping[str, Metadata]:
        return self.found

    async def close(self) -> None:
        """Do nothing: these plugins belong to their users."""


class EntryPointPlugins:
    """Plugins from entry points, by type: created on first use, and retried on the next use after a failure."""

    def __init__(self, registry: Registry, names: Mapping[str, str], facts: Snapshots) -> None:
        self._registry = registry
        self._names = names
        self._facts = facts
        self._found: dict[str, Metadata] = {}

    async def plugins(self) -> Mapping[str, Metadata]:
        """Return the plugins; create them on first use. Raises `PluginError`."""
        if not self._found:
            self._found = {t: self._registry.create(Metadata, n, facts=self._facts) for t, n in self._names.items()}
        return self._found

    async def close(self) -> None:
        """Close the created plugins."""
        found, self._found = self._found, {}
        for plugin in found.values():
            await close(plugin)


class RemotePlugins:
    """Plugins of the process at an address; what it serves is read on first use, and after it may have restarted."""

    def __init__(self, name: str, address: str) -> None:
        self.address = address
        self._name = name
        self._connected_to: object = None
        self._found: dict[str, Any] = {}

    async def plugins(self) -> Mapping[str, Metadata]:
        """Return the plugins; connect first if needed. Raises `Unreachable`, and what the connection raises."""
        identity = _identity(self.address)
        if identity != self._connected_to:
            await self.close()
            await self._connect()
            self._connected_to = identity
        return self._found

    async def _connect(self) -> None:
        transport = Transport(self.address)
        try:
            served = await client.hello(transport, self._name)
        finally:
            await transport.close()
        for protocol in (Updatable, Metadata):
            for type_ in served.get(interfaces.of(protocol).announced, ()):
                name = self._name if type_ == MAIN else f"{self._name}/{type_}"
                self._found[type_] = await client.connect(protocol, name, self.address)

    async def close(self) -> None:
        """Close the connections."""
        self._connected_to, found, self._found = None, self._found, {}
        for plugin in found.values():
            await plugin.close()


def _identity(address: str) -> object:
    """An identity of the listener, which changes when another process listens there."""
    with contextlib.suppress(OSError):
        status = Path(address).stat()
        return status.st_ino, status.st_ctime_ns
    return int(asyncio.get_running_loop().time() // RECONNECT_S)


def find() -> dict[str, RemotePlugins]:
    """Return the plugin processes found on this machine, except the manager, by name."""
    found = {each.name: each.address for each in discovery.found() if each.name != discovery.MANAGER_SOCKET}
    return {name: RemotePlugins(name, address) for name, address in found.items()}


async def read(name: str, plugins: Mapping[str, Metadata]) -> Any:
    """Read the complete branch as a plain value. Raises what a plugin raises, and `PluginError` for invalid JSON."""
    tree: Any = None
    for type_, plugin in sorted(plugins.items()):  # the object without a type comes first
        value = _decoded(name, await plugin.get(path=""))
        tree = value if type_ == MAIN else (tree if isinstance(tree, dict) else {}) | {type_: value}
    return tree


def _decoded(name: str, value: msgspec.Raw) -> Any:
    if len(bytes(value)) > BYTES_MAX:
        raise errors.PluginError(f"its tree has {len(bytes(value))} bytes, at most {BYTES_MAX} are read", where=name)
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise errors.PluginError(f"its tree cannot be read: {error}", where=name) from None
