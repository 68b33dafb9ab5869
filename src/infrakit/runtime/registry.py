"""Plugins by name: those that run in other processes, and those created in this process from Python entry points.

A plugin that answers at its socket when it is first needed is used there from then on, even after its process has
restarted. Otherwise an entry point of that name is loaded: of `infrakit.instances`, `infrakit.flavors`, or similar
groups. It names a class, which is called once with those of these arguments for which its constructor has parameters:
`directory` (a `Path`, its own place for state), `clock`, `random` and `engine` (of templates); all groups share the
object. A daemon offers more: its `store`, its `manager` (`spi.manager.Manager`), and `facts`
(`spi.metadata.Snapshots`), the joined tree of metadata as templates see it.
"""

import asyncio
import collections
import importlib.metadata
import inspect
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from infrakit.manager.declaration import validate as validation
from infrakit.rpc import discovery
from infrakit.runtime import templates
from infrakit.runtime.installed import FLAVORS, GROUPS, INSTANCES
from infrakit.spi import errors, names, protocols
from infrakit.spi.clock import Clock, SystemClock
from infrakit.spi.flavor import Flavor
from infrakit.spi.group import Group
from infrakit.spi.instance import Instance

ONLY_IN_A_DAEMON = {"store", "manager", "facts"}


class Registry:
    """The plugins of one daemon; `home` contains a directory for each plugin with state."""

    def __init__(self, home: Path, *, clock: Clock | None = None, random: random.Random | None = None) -> None:
        self._home = home
        self._offered: dict[str, Any] = {
            "clock": clock or SystemClock(),
            "random": random,
            "engine": templates.engine(),
        }
        self._plugins: dict[tuple[type[Any], str], Any] = {}
        self._locks: dict[tuple[type[Any], str], asyncio.Lock] = collections.defaultdict(asyncio.Lock)

    def offer(self, **offered: object) -> None:
        """Offer more arguments to plugins that are created from now on."""
        self._offered |= offered

    async def instance(self, name: str) -> Instance:
        """The instance plugin of that name. Raises `NotFound`, `Unreachable`, or `PluginError` for another kind."""
        plugin: Instance = await self.find(Instance, name)
        return plugin

    async def flavor(self, name: str) -> Flavor:
        """The flavor plugin of that name. Raises `NotFound`, `Unreachable`, or `PluginError` for another kind."""
        plugin: Flavor = await self.find(Flavor, name)
        return plugin

    def names(self, section: Literal["Instance", "Flavor"]) -> Sequence[str]:
        """Return the names of all entry points and of all running plugin processes, of any kind."""
        entries = importlib.metadata.entry_points(group=INSTANCES if section == "Instance" else FLAVORS).names
        return sorted({*entries, *(each.name for each in discovery.found())})

    async def find(self, protocol: type[Any], name: str) -> Any:
        """Return the plugin of that kind and name, in this or another process; always the same object."""
        async with self._locks[protocol, name]:
            plugin = self._plugins.get((protocol, name))
            if plugin is None:
                plugin = await self._connect(protocol, name) or self.create(protocol, name)
                self._plugins[protocol, name] = plugin
        return plugin

    async def _connect(self, protocol: type[Any], name: str) -> Any:
        """Connect to the plugin in another process; None if none serves that type and an entry point can replace it."""
        running = discovery.find(name)
        if running is None:
            return None
        from infrakit.rpc import client

        try:
            return await client.connect(protocol, name, running.address)
        except (errors.Unreachable, errors.NotFound):  # or the process serves other types of that name
            if entries(protocol, name):
                return None
            raise

    def in_use(self, protocol: type[Any]) -> dict[str, Any]:
        """Return the plugins in use as another kind that also satisfy this kind, by name."""
        return {
            name: each
            for (kind, name), each in self._plugins.items()
            if kind is not protocol and protocols.satisfies(each, protocol)
        }

    def create(self, protocol: type[Any], name: str, **more: object) -> Any:
        """Create a plugin in this process; `more` arguments are offered to it. Raises `NotFound`, `PluginError`."""
        plugin = self._create(protocol, name, more)
        if missing := protocols.missing(plugin, protocol):
            hidden = protocols.hidden(plugin, protocol)
            what = protocols.explain_hidden(plugin, hidden) if hidden else f"it has no {', '.join(sorted(missing))}"
            raise errors.PluginError(what, where=f"{GROUPS[protocol]} {name}")
        return plugin

    def _create(self, protocol: type[Any], name: str, more: dict[str, object]) -> Any:
        group, found = GROUPS[protocol], entries(protocol, name)
        if not found:
            raise errors.NotFound(
                f"there is no plugin {name!r}",
                where=group,
                remedy=names.remedy(name, _known(group), listed="installed"),
            )
        try:
            factory = found[0].load()
            accepted = inspect.signature(factory).parameters
            offered = self._offered | {"directory": self._home / name} | more
            _check(accepted, offered)
            return factory(**{k: v for k, v in offered.items() if k in accepted and v is not None})
        except Exception as error:  # third-party code may raise anything; the error names the plugin
            raise errors.PluginError(f"it could not be loaded: {error}", where=f"{group} {name}") from error

    async def close(self) -> None:
        """Close all plugins, so that they release connections and tasks."""
        for plugin in self._plugins.values():
            await close(plugin)


async def close(plugin: object) -> None:
    """Close a plugin, if it has a `close` coroutine."""
    method = getattr(plugin, "close", None)
    if method is not None and inspect.iscoroutinefunction(method):
        await method()


def _check(accepted: Mapping[str, inspect.Parameter], offered: Mapping[str, Any]) -> None:
    for name, parameter in accepted.items():
        if name in ONLY_IN_A_DAEMON - offered.keys() and parameter.default is parameter.empty:
            raise errors.Refused(f"it needs the {name} of a daemon, so only a daemon can serve it")


def _known(group: str) -> set[str]:
    """The plugins that are installed or running; a running one may be of another kind."""
    return {*importlib.metadata.entry_points(group=group).names, *(each.name for each in discovery.found())}


def entries(protocol: type[Any], name: str) -> list[importlib.metadata.EntryPoint]:
    """The entry points of that kind and name."""
    return list(importlib.metadata.entry_points(group=GROUPS[protocol], name=name))


async def validate(
    text: str, source: str, *, home: Path | None = None, warn: validation.Report | None = None
) -> tuple[Group, ...]:
    """The groups that a document declares, checked against the plugins it names, without a daemon.

    Raises `InvalidSpec` with every problem; for `warn` see `manager.declaration.validate`.
    """
    registry = Registry(home or discovery.home())
    try:
        return await validation.checked(text, source, registry, warn=warn)
    finally:
        await registry.close()
