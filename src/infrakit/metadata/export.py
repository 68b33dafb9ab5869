"""The metadata plugin `export`: what a template publishes with `export(path, value)`, rendered again at an interval.

So facts that must be computed or fetched come from one template, and are read like all other metadata. A read renders
the template if the last rendering is older than the interval, in a thread, and never concurrently; a reader that times
out does not cancel it. The template sees all other metadata. If it fails, reads fail with its error: earlier exports
are not returned, because they may be outdated.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from infrakit.spi import errors, paths
from infrakit.spi.group import DURATION_PATTERN, seconds
from infrakit.spi.metadata import Facts, Snapshots
from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader, display
from infrakit.template.scope import Scope

TEMPLATE_VARIABLE = "INFRAKIT_EXPORT_TEMPLATE"
INTERVAL_VARIABLE = "INFRAKIT_EXPORT_INTERVAL"
INTERVAL = "1m"
RETRY_S = 5.0  # after a failure, if the interval is longer


class Export:
    """Renders a template as metadata. Satisfies `spi.metadata.Metadata`. Without a template the tree is empty."""

    def __init__(self, facts: Snapshots | None = None, engine: Engine | None = None) -> None:
        self._snapshot = facts
        self._address = os.environ.get(TEMPLATE_VARIABLE, "")
        self._interval_s = _interval_s()
        self._engine = engine or Engine(Loader())
        self._rendering: asyncio.Task[dict[str, Any]] | None = None
        self._begun_at = 0.0

    async def keys(self, *, path: str) -> Sequence[str] | None:
        return paths.keys(paths.find(await self._exports(), paths.split(path)))

    async def get(self, *, path: str) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(paths.find(await self._exports(), paths.split(path))))

    async def close(self) -> None:
        """Cancel a rendering in progress; its thread returns at its own timeout."""
        if self._rendering is not None:
            self._rendering.cancel()
            await asyncio.wait({self._rendering})

    async def _exports(self) -> dict[str, Any]:
        if not self._address:
            return {}
        loop = asyncio.get_running_loop()
        if self._rendering is None or (self._rendering.done() and loop.time() - self._begun_at >= self._valid_s):
            self._begun_at = loop.time()
            self._rendering = loop.create_task(self._render())
        return await asyncio.shield(self._rendering)

    @property
    def _valid_s(self) -> float:
        """How long the last rendering or failure is valid, in seconds."""
        failed = self._rendering is not None and (
            self._rendering.cancelled() or self._rendering.exception() is not None
        )
        return min(self._interval_s, RETRY_S) if failed else self._interval_s

    async def _render(self) -> dict[str, Any]:
        facts = await self._snapshot() if self._snapshot is not None else None
        return await asyncio.to_thread(self._render_blocking, facts)

    def _render_blocking(self, facts: Facts | None) -> dict[str, Any]:
        template = self._engine.template(self._address)
        rendered = self._engine.render(template, Scope(facts=facts))
        return tree(rendered.exports, rendered.secrets, where=display(self._address))


def tree(exports: Mapping[str, object], secrets: frozenset[str] = frozenset(), *, where: str = "") -> dict[str, Any]:
    """Build the tree of the exported values. Raises `Refused` for a path through a value, or a value with a secret."""
    built: dict[str, Any] = {}
    for path, value in sorted(exports.items()):  # parents first
        *above, name = paths.split(path) or ("",)
        if any(secret and secret in text for secret in secrets for text in _texts(value)):
            raise errors.Refused(
                f"{path} would expose a secret to every reader", where=where, remedy="export only what is not secret"
            )
        at = built
        for step in above:
            at = at.setdefault(step, {})
            if not isinstance(at, dict):
                raise errors.Refused(f"{path} leads through {step}, which is exported as a value", where=where)
        if not name:
            raise errors.Refused("an export requires a name", where=where, remedy="write export('name', value)")
        at[name] = _plain(path, value, where)
    return built


def _plain(path: str, value: object, where: str) -> Any:
    """Copy the value as plain JSON types. Raises `Refused`."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, msgspec.MsgspecError):
        raise errors.Refused(f"{path} is not defined, or not a plain value", where=where) from None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield str(name)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _interval_s() -> float:
    text = os.environ.get(INTERVAL_VARIABLE, INTERVAL)
    if not re.fullmatch(DURATION_PATTERN, text):
        raise errors.invalid(INTERVAL_VARIABLE, f"{text!r} is not a duration", hint='write it as "30s" or "5m"')
    return seconds(text)
