"""Plugins by name, from Python entry points: `infrakit.instances`, `infrakit.flavors`, and further groups like them.

An entry point names a class. It is called once, when first asked for, with those of `directory` (a `Path`, its own
place for state), `clock` and `random` that its constructor has parameters for; all groups share the object.
"""

import importlib.metadata
import inspect
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from infrakit.manager import validate as validation
from infrakit.rpc import discovery
from infrakit.spi import errors
from infrakit.spi.clock import Clock, SystemClock
from infrakit.spi.flavor import Flavor
from infrakit.spi.group import Group
from infrakit.spi.instance import Instance

INSTANCES = "infrakit.instances"
FLAVORS = "infrakit.flavors"


class Registry:
    """The plugins of one daemon; `home` holds a directory for each that keeps state."""

    def __init__(self, home: Path, *, clock: Clock | None = None, random: random.Random | None = None) -> None:
        self._home = home
        self._offered: dict[str, Any] = {"clock": clock or SystemClock(), "random": random}
        self._made: dict[tuple[str, str], Any] = {}

    async def instance(self, name: str) -> Instance:
        """The instance plugin of that name. Raises `NotFound`, or `PluginError` if it is none."""
        plugin: Instance = self._typed(INSTANCES, name, Instance)
        return plugin

    async def flavor(self, name: str) -> Flavor:
        """The flavor plugin of that name. Raises `NotFound`, or `PluginError` if it is none."""
        plugin: Flavor = self._typed(FLAVORS, name, Flavor)
        return plugin

    def names(self, section: Literal["Instance", "Flavor"]) -> Sequence[str]:
        return sorted(importlib.metadata.entry_points(group=INSTANCES if section == "Instance" else FLAVORS).names)

    def _typed(self, group: str, name: str, protocol: type[Any]) -> Any:
        plugin = self._made.get((group, name))
        if plugin is None:
            plugin = self._made[group, name] = self._make(group, name)
        if not isinstance(plugin, protocol):
            missing = sorted(m for m in _methods(protocol) if not hasattr(plugin, m))
            raise errors.PluginError(f"it has no {', '.join(missing)}", where=f"{group} {name}")
        return plugin

    def _make(self, group: str, name: str) -> Any:
        found = list(importlib.metadata.entry_points(group=group, name=name))
        if not found:
            raise errors.NotFound(f"there is no plugin {name!r}", where=group, remedy="see: pip list")
        try:
            made = found[0].load()
            accepted = inspect.signature(made).parameters
            offered = self._offered | {"directory": self._home / name}
            return made(**{k: v for k, v in offered.items() if k in accepted and v is not None})
        except Exception as error:  # somebody else's code: whatever it raises is its failure, told by name
            raise errors.PluginError(f"it could not be loaded: {error}", where=f"{group} {name}") from error

    async def close(self) -> None:
        """Let plugins that hold connections or tasks end them."""
        for plugin in self._made.values():
            close = getattr(plugin, "close", None)
            if close is not None and inspect.iscoroutinefunction(close):
                await close()


def _methods(protocol: type[Any]) -> list[str]:
    return [name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")]


async def validate(text: str, source: str, *, home: Path | None = None) -> tuple[Group, ...]:
    """The groups that a document declares, checked against the plugins it names, without a daemon.

    Raises `InvalidSpec` with every problem.
    """
    registry = Registry(home or discovery.home())
    try:
        return await validation.checked(text, source, registry)
    finally:
        await registry.close()
