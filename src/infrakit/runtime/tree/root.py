"""The joined tree: all metadata of a daemon under one root, the first name of a path being that of the plugin.

A plugin is found in this order: parts of the daemon itself, processes that listen at a socket, the entry points of
`infrakit.metadata`, and the instance and flavor plugins in use that have metadata too. Each is read by a task of its
own with a deadline, once a cycle at most, and only on request. So a plugin that is unavailable or slow affects only its
own branch, and controllers never wait long for one: a snapshot uses the last result instead of waiting for a plugin
that failed the last time, or whose last value is not stale yet.
"""

import asyncio
import functools
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from infrakit.runtime.installed import METADATA
from infrakit.runtime.registry import Registry
from infrakit.runtime.tree import branches, writing
from infrakit.runtime.tree.branches import EntryPointPlugins, InProcess, RemotePlugins, Source
from infrakit.runtime.tree.facts import NOT_READ, Outcome, Snapshot
from infrakit.spi import errors, paths
from infrakit.spi.metadata import Branch, Change, Facts, Metadata, Revision, Updatable, Versioned, Written

CYCLE_S = 1.0  # maximum age of a value for a snapshot
READ_S = 0.1  # maximum age of a value for a direct read
DEADLINE_S = 5.0
SNAPSHOT_WAIT_S = 0.25  # how long a snapshot waits for a new value, if an older one is known
STALE_S = 10.0  # a value older than this does not count as known

T = TypeVar("T")


class Reading:
    """One branch: its source, and the result of its last read."""

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source
        self.plugins: Mapping[str, Metadata] = {}
        self.outcome: Outcome | None = None
        self.task: asyncio.Task[None] | None = None

    def refresh(self, age_s_max: float) -> "asyncio.Task[None] | None":
        """The task that reads the branch; None if the last result is recent enough."""
        now = asyncio.get_running_loop().time()
        if self.task is not None:
            return self.task
        if self.outcome is not None and now - self.outcome.at <= age_s_max:
            return None
        self.task = asyncio.get_running_loop().create_task(self._read(now))
        return self.task

    def invalidate(self) -> None:
        """Invalidate the last result after a write, and that of a read in progress."""
        self.outcome = None
        self.task = None

    async def _read(self, now: float) -> None:
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(DEADLINE_S):
                self.plugins = await self.source.plugins()
                outcome = Outcome(await branches.read(self.name, self.plugins), at=now)
        except TimeoutError:
            outcome = Outcome(error=TimeoutError(f"no answer within {DEADLINE_S:g} s"), at=now)
        except Exception as error:  # third-party code may raise anything; it affects this branch only
            outcome = Outcome(error=error, at=now)
        if self.task is task:
            self.outcome, self.task = outcome, None
        elif self.outcome is None:  # valid for callers that waited for it, stale for all others
            self.outcome = outcome._replace(at=now - STALE_S)

    @property
    def is_known(self) -> bool:
        """Whether there is a result to use, a value or an error."""
        if self.outcome is None:
            return False
        return self.has_failed or asyncio.get_running_loop().time() - self.outcome.at < STALE_S

    @property
    def has_failed(self) -> bool:
        """Whether the last read failed."""
        return self.outcome is not None and self.outcome.error is not None

    @property
    def has_metadata(self) -> bool:
        """Whether it is a branch: a plugin that reports no metadata is none."""
        return bool(self.plugins) or self.outcome is None or self.has_failed


class Tree:
    """Satisfies `spi.metadata.Metadata` and `Tree`. `own`: plugins of the daemon, which take precedence."""

    def __init__(self, registry: Registry, own: Mapping[str, Metadata]) -> None:
        self._registry = registry
        self._own = own
        self._readings: dict[str, Reading] = {}
        self._entries: dict[str, Source] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()

    # -- discovery -------------------------------------------------------------------------------------------------

    def _find(self) -> dict[str, Reading]:
        """Find every possible branch; a branch that was found before keeps its object."""
        if not self._entries:
            self._entries = self._offered()
        used = _by_name(self._registry.in_use(Metadata))
        found: dict[str, Source] = {
            **{name: InProcess(plugins) for name, plugins in used.items()},
            **self._entries,
            **branches.find(),
            **{name: InProcess({branches.MAIN: plugin}) for name, plugin in self._own.items()},
        }
        before, self._readings = self._readings, {}
        for name, source in sorted(found.items()):
            known = before.get(name)
            same = known is not None and _is_same(known.source, source)
            self._readings[name] = known if same and known is not None else Reading(name, source)
        for name, known in before.items():
            if self._readings.get(name) is not known:
                _hold(asyncio.get_running_loop().create_task(known.source.close()), self._closing)
        return self._readings

    def _offered(self) -> dict[str, Source]:
        """Return the branches of entry points, which are fixed at run time. A plugin is created on its first read."""
        names = {name: name for name in importlib.metadata.entry_points(group=METADATA).names}
        return {
            name: EntryPointPlugins(self._registry, typed, functools.partial(self.snapshot, without=name))
            for name, typed in _by_name(names).items()
        }

    def _start(self, readings: Iterable[Reading], age_s_max: float) -> None:
        for each in readings:
            if (task := each.refresh(age_s_max)) is not None:
                _hold(task, self._tasks)

    async def _wait_for(self, readings: Iterable[Reading], timeout_s: float | None = None) -> None:
        """Wait for reads in progress."""
        tasks = [each.task for each in readings if each.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def keys(self, *, path: str) -> Sequence[str] | None:
        steps = paths.split(path)
        if not steps:
            return [each.name for each in await self._all() if each.has_metadata]
        reading = self._find().get(steps[0])
        if reading is None:
            return None
        tree = await self._one(reading)
        return paths.keys(paths.find(tree, steps[1:]))

    async def get(self, *, path: str) -> msgspec.Raw:
        steps = paths.split(path)
        if not steps:
            known = {each.name: each.outcome for each in await self._all() if each.has_metadata}
            value: object = {name: o.value for name, o in known.items() if o is not None and o.error is None}
        else:
            reading = self._find().get(steps[0])
            value = paths.find(await self._one(reading), steps[1:]) if reading is not None else None
        return msgspec.Raw(msgspec.json.encode(value))

    async def _all(self) -> list[Reading]:
        readings = list(self._find().values())
        self._start(readings, READ_S)
        await self._wait_for(readings)
        return readings

    async def _one(self, reading: Reading) -> Any:
        """Return the complete branch. Raises `Unreachable`."""
        self._start([reading], READ_S)
        await self._wait_for([reading])
        return (reading.outcome or NOT_READ).read(reading.name)

    async def branches(self) -> tuple[Branch, ...]:
        return tuple(_branch(each) for each in await self._all() if each.has_metadata)

    async def snapshot(self, *, without: str = "") -> Facts:
        """Facts for templates, `without` the branch that requests them, which would wait for itself."""
        readings = [each for each in self._find().values() if each.name != without]
        known = [each for each in readings if each.is_known]
        self._start(readings, CYCLE_S)
        await self._wait_for([each for each in readings if each not in known])
        await self._wait_for([each for each in known if not each.has_failed], SNAPSHOT_WAIT_S)
        outcomes = {each.name: each.outcome or NOT_READ for each in readings if each.has_metadata}
        return Snapshot(outcomes, asyncio.get_running_loop(), self._until)

    async def _until(self, path: str, timeout_s: float) -> object:
        """The value at a path once there is one. Raises `NotFound`, or `Unreachable` if its plugin is unavailable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while True:
            try:
                return (await self.snapshot()).get(path)
            except (errors.NotFound, errors.Unreachable):
                if loop.time() >= end:
                    raise
            await asyncio.sleep(min(CYCLE_S, max(0.0, end - loop.time())))

    # -- writing ---------------------------------------------------------------------------------------------------

    async def write(
        self, *, changes: tuple[Change, ...], remove: tuple[str, ...], who: str, why: str, expected: int | None = None
    ) -> Written:
        name = writing.first_name([*(change.path for change in changes), *remove])
        reading = await self._available(name)
        request = writing.WriteRequest(changes=changes, remove=remove, who=who, why=why, expected=expected)
        try:
            return await writing.write(name, reading.plugins, request)
        finally:
            reading.invalidate()

    async def history(self, *, plugin: str, limit: int = 50) -> tuple[Revision, ...]:
        return await (await self._versioned(plugin)).history(limit=limit)

    async def show(self, *, plugin: str, version: int) -> msgspec.Raw:
        return await (await self._versioned(plugin)).show(version=version)

    async def restore(self, *, plugin: str, version: int, who: str, why: str, expected: int | None = None) -> Written:
        source = await self._versioned(plugin)
        try:
            return await source.restore(version=version, who=who, why=why, expected=expected)
        finally:
            (await self._available(plugin)).invalidate()

    async def _versioned(self, plugin: str) -> Versioned:
        return writing.versioned(plugin, (await self._available(plugin)).plugins)

    async def _available(self, name: str) -> Reading:
        """Return the branch, if its plugin answers. Raises `NotFound`, `Unreachable`."""
        reading = self._find().get(name)
        if reading is None:
            raise paths.missing([name], 0, [each.name for each in await self._all() if each.has_metadata])
        await self._one(reading)
        return reading

    async def close(self) -> None:
        """Cancel reads in progress, and close connections."""
        for task in self._tasks:
            task.cancel()
        if remaining := self._tasks | self._closing:
            await asyncio.wait(remaining)
        for each in self._readings.values():
            await each.source.close()


def _hold(task: asyncio.Task[None], among: set[asyncio.Task[None]]) -> None:
    """Hold a reference to a task until it is done, so that it is not garbage collected."""
    among.add(task)
    task.add_done_callback(among.discard)


def _is_same(known: Source, found: Source) -> bool:
    if isinstance(known, RemotePlugins) and isinstance(found, RemotePlugins):
        return known.address == found.address
    return known == found


def _by_name(named: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """Group by the lookup name, then by type: `lookup/type`; `.` is the type of a name without one."""
    found: dict[str, dict[str, T]] = {}
    for name, each in named.items():
        lookup, _, type_ = name.partition("/")
        found.setdefault(lookup, {})[type_ or branches.MAIN] = each
    return found


def _branch(reading: Reading) -> Branch:
    outcome = reading.outcome or NOT_READ
    plugins = list(reading.plugins.values())
    return Branch(
        name=reading.name,
        state="here" if outcome.error is None else "away",
        writable=any(isinstance(each, Updatable) for each in plugins),
        versioned=any(isinstance(each, Versioned) for each in plugins),
        age_s=asyncio.get_running_loop().time() - outcome.at if outcome.error is None else None,
        note="" if outcome.error is None else str(outcome.error) or "no answer in time",
    )
