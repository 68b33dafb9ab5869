"""Hosts plugins in this process, each name at a socket of its own, until a stop is requested.

A name is that of entry points: `vanilla` serves everything that is registered as `vanilla`, and every typed name below
it, `vanilla/...`. It may be served under another name: `vanilla:web`.
"""

import asyncio
import contextlib
import difflib
import importlib.metadata
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infrakit.rpc import discovery
from infrakit.rpc.listen import Listen
from infrakit.rpc.server import Server
from infrakit.runtime import collector
from infrakit.runtime.installed import GROUPS, available
from infrakit.runtime.registry import Registry
from infrakit.spi import errors

_log = logging.getLogger("infrakit.host")


class Hosted(NamedTuple):
    """One socket to serve, and the entry points behind it."""

    kind: str  # the name of the entry points
    name: str  # the name of the socket


def parse(text: str) -> Hosted:
    """Parse `kind` or `kind:name`. Raises `NotFound`."""
    kind, colon, name = text.partition(":")
    name = name if colon else kind.partition("/")[0]
    if not kind or not name or "/" in name or name.startswith(".") or name == discovery.MANAGER_SOCKET:
        raise errors.NotFound(
            f"{text!r} names no plugin that can be served", remedy="write KIND or KIND:NAME, such as vanilla:web"
        )
    return Hosted(kind, name)


def objects(registry: Registry, kind: str) -> dict[str, tuple[object, ...]]:
    """Create the plugins of a name, by type; `.` is the one without a type. Raises `NotFound`, `PluginError`."""
    plugins: dict[str, tuple[object, ...]] = {}
    for protocol, group in GROUPS.items():
        for name in sorted(importlib.metadata.entry_points(group=group).names):
            lookup, _, type_ = name.partition("/")
            if kind in (name, lookup):
                key = type_ or "."
                plugins[key] = (*plugins.get(key, ()), registry.create(protocol, name))
    if not plugins:
        near = difflib.get_close_matches(kind, available(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known to {sys.executable}: {', '.join(available())}"
        raise errors.NotFound(f"no package offers a plugin {kind!r}", remedy=hint)
    return plugins


async def serve(plugins: Sequence[Hosted], *, home: Path, listen: Listen | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then drain calls in flight for a few seconds, and remove the sockets.

    With `listen` there is one plugin, which is served on TCP as well.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        registry = Registry(home)
        stack.push_async_callback(registry.close)
        for hosted in plugins:
            served: dict[str, Any] = objects(registry, hosted.kind)
            path = discovery.plugins_directory() / hosted.name
            server = await stack.enter_async_context(Server(path, served, listen=listen))
            where = f"{path} and {listen.url}" if listen is not None else str(path)
            _log.info("%s: serves %s at %s", hosted.name, ", ".join(server.announced), where)
        collector.adapt()
        await stop.wait()
        _log.info("stopping")
