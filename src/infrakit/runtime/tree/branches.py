"""Where the branches of the joined tree come from: each is the metadata of one name, in this process or elsewhere.

A name may serve several objects, `aws/zones` beside `aws`: they are one branch, with each typed object below its type.
Reading a branch reads all of it, so that one answer serves everybody who asks during a cycle.
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
ASK_AGAIN_S = 30.0  # what listens at a URL, which does not show when it has been restarted
MAIN = "."  # the object that has no type


class Source(Protocol):
    """Plugins by type, found again whenever they are asked for. No plugins: it has no metadata."""

    async def plugins(self) -> Mapping[str, Metadata]: ...

    async def close(self) -> None: ...


class InProcess(NamedTuple):
    """Plugins of this process."""

    found: Mapping[str, Metadata]

    async def plugins(self) -> Mapping[str, Metadata]:
        return self.found

    async def close(self) -> None:
        """They belong to others."""


class EntryPointPlugins:
    """Entry points, by type: made when they are first asked for, and again if that has failed."""

    def __init__(self, registry: Registry, names: Mapping[str, str], facts: Snapshots) -> None:
        self._registry = registry
        self._names = names
        self._facts = facts
        self._found: dict[str, Metadata] = {}

    async def plugins(self) -> Mapping[str, Metadata]:
        """Raises `PluginError`."""
        if not self._found:
            self._found = {t: self._registry.make(Metadata, n, facts=self._facts) for t, n in self._names.items()}
        return self._found

    async def close(self) -> None:
        """Let those that hold something let go of it."""
        found, self._found = self._found, {}
        for plugin in found.values():
            await close(plugin)


class RemotePlugins:
    """Whatever listens at an address: asked what it serves when it is first seen, and when another process may be."""

    def __init__(self, name: str, address: str) -> None:
        self.address = address
        self._name = name
        self._seen: object = None
        self._found: dict[str, Any] = {}

    async def plugins(self) -> Mapping[str, Metadata]:
        """Raises what keeps it away."""
        seen = _identity(self.address)
        if seen != self._seen:
            await self.close()
            await self._connect()
            self._seen = seen
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
        self._seen, found, self._found = None, self._found, {}
        for plugin in found.values():
            await plugin.close()


def _identity(address: str) -> object:
    """Changes when another process listens there."""
    with contextlib.suppress(OSError):
        status = Path(address).stat()
        return status.st_ino, status.st_ctime_ns
    return int(asyncio.get_running_loop().time() // ASK_AGAIN_S)


def find() -> dict[str, RemotePlugins]:
    """What seems to run here, apart from the manager, by name."""
    found = {each.name: each.address for each in discovery.found() if each.name != discovery.MANAGER_SOCKET}
    return {name: RemotePlugins(name, address) for name, address in found.items()}


async def read(name: str, plugins: Mapping[str, Metadata]) -> Any:
    """The whole branch as a plain value. Raises what a plugin raises, `PluginError` for what is no JSON."""
    tree: Any = None
    for type_, plugin in sorted(plugins.items()):  # the one without a type comes first
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
