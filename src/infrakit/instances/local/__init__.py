"""The provider `local`: every instance is a real process group of this machine, in a directory of its own.

Instances outlive the daemon that made them, and are found again. Nothing is believed because it is remembered:
the files say what was made, the kernel says what lives (see `home` for the files, `records` for an instance's life).

    properties  what can be declared
    home        the directory, its locks, and writing that lasts
    processes   processes told from each other for certain
    spawn       starting one so that a crash leaves nothing half-done
    records     an instance, its phases, its claims
    make, end   provision and destroy
    present     the instances that are there, listed as cheaply as the kernel allows
    collect     what is deleted, and when
    tail        the end of a log
"""

import asyncio
import contextlib
import functools
import pathlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from infrakit.instances.local import collect, end, make, records, spawn, tail
from infrakit.instances.local.home import Home
from infrakit.instances.local.present import Present
from infrakit.instances.local.properties import decode
from infrakit.instances.local.records import VOLUME, Record
from infrakit.spi.clock import Clock, SystemClock
from infrakit.spi.errors import InvalidSpec, NotFound, Refused
from infrakit.spi.instance import Capabilities, DestroyContext, LogPart
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec

__all__ = ["Local"]

T = TypeVar("T")
K = TypeVar("K")

_CAPABILITIES = Capabilities(listing_lag_s=0.0, tokens=True)
_SYSTEM_CLOCK = SystemClock()
_HINTS_MAX = 1000
_DEATHS_A_COLLECTION = 100


class Local:
    """Satisfies `Instance`, `Capable`, `Inspects`, `Watches`, `Logs`, `Tails`, `Volumes` and `Keeps` of the contract.

    What was begun is brought to its end also when the call is cancelled: an instance is never left half-made.
    """

    def __init__(self, directory: pathlib.Path, *, clock: Clock = _SYSTEM_CLOCK) -> None:
        spawn.keep_inherited()
        self._home = Home(directory)
        self._clock = clock
        self._present = Present(
            self._home, tell=self._tell, died=self._died, finished=self._finished, must_end=self._end
        )
        self._making: dict[InstanceID, asyncio.Task[None]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Queue[str]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deaths = 0

    async def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    async def validate(self, *, properties: msgspec.Raw) -> None:
        decode(properties)

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        self._attach()
        try:
            declared = decode(spec.properties)
        except InvalidSpec as error:
            raise Refused(f"its properties are wrong: {error}") from error
        id_ = make.instance_id(spec)
        task = self._making.get(id_)
        if task is None:
            making = asyncio.to_thread(make.make, self._home, id_, spec, declared)
            task = self._making[id_] = asyncio.create_task(making)
            task.add_done_callback(functools.partial(_settled, self._making, id_))
        await asyncio.shield(task)
        return id_

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        self._attach()
        await self._carry_out(asyncio.to_thread(records.label, self._home, instance, dict(labels)))

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:  # noqa: ARG002
        self._attach()
        if making := self._making.get(instance):
            await asyncio.wait([making])
        if record := await self._carry_out(asyncio.to_thread(records.condemn, self._home, instance)):
            await asyncio.shield(self._end(record))

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        self._attach()
        wanted = tags.items()
        found = [each for each in self._present.all() if wanted <= (each.tags or {}).items()]
        return [self._with_facts(each) for each in found] if properties else found

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        self._attach()
        self._present.notice()
        found = self._present.look(instance)
        return self._with_facts(found) if found is not None else None

    async def watch(self) -> AsyncIterator[str]:
        """Knows of those instances that this object has made or listed."""
        hints: asyncio.Queue[str] = asyncio.Queue(_HINTS_MAX)
        self._watchers.add(hints)
        try:
            self._attach()
            await self.describe_instances(tags={})
            while True:
                yield await hints.get()
        finally:
            self._watchers.discard(hints)

    async def logs(self, *, instance: InstanceID, lines: int) -> str:
        if records.is_id(instance):
            for place in (self._home.instances, self._home.graves):
                with contextlib.suppress(FileNotFoundError):
                    text, _ = await asyncio.to_thread(tail.read, place / instance / "log", lines)
                    return text
        raise _no_log(instance)

    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 0) -> LogPart:
        if records.is_id(instance):
            for place, ended in ((self._home.instances, False), (self._home.graves, True)):
                path = place / instance / "log"
                with contextlib.suppress(FileNotFoundError):
                    if after is None:
                        text, end = await asyncio.to_thread(tail.read, path, lines)
                    else:
                        text, end = await asyncio.to_thread(tail.onward, path, max(0, after), ended=ended)
                    return LogPart(text=text, position=end, ended=ended and (after is None or not text))
        raise _no_log(instance)

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        self._attach()
        if attachment.type != VOLUME:
            raise Refused(f"the attachment {attachment.id} is of type {attachment.type!r}, and only {VOLUME!r} is here")
        await self._carry_out(asyncio.to_thread(collect.delete_volume, self._home, attachment.id))

    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        def look() -> list[Attachment]:
            return [each for each in attachments if each.type == VOLUME and collect.has_volume(self._home, each.id)]

        return await asyncio.to_thread(look)

    async def close(self) -> None:
        """Let go of files, and finish what is under way. Instances stay as they are."""
        under_way = {*self._making.values(), *self._chores}
        if under_way:
            await asyncio.wait(under_way)
        for task in self._ending.values():  # whoever comes next carries on
            task.cancel()
        if self._ending:
            await asyncio.wait(self._ending.values())
        if self._loop is not None:
            self._loop.remove_reader(self._present.fileno())
            self._loop = None
        self._present.close()

    # -- what goes on beside the calls -----------------------------------------------------------------------------

    def _attach(self) -> None:
        """Hear of exits in the loop that uses this object, and clean up once after what may have been a crash."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.add_reader(self._present.fileno(), self._present.notice)
            self._collect()

    def _tell(self, hint: str) -> None:
        for hints in self._watchers:
            with contextlib.suppress(asyncio.QueueFull):  # whoever has so many to read looks again anyway
                hints.put_nowait(hint)

    def _died(self, instance_id: str) -> None:
        self._chore(collect.clear, self._home, instance_id, died_at=self._clock.now())
        self._deaths += 1
        if self._deaths % _DEATHS_A_COLLECTION == 0:
            self._collect()

    def _finished(self, instance_id: str) -> None:
        self._chore(records.keep_exit, self._home, instance_id)

    def _collect(self) -> None:
        self._chore(collect.collect, self._home, now=self._clock.now())

    def _chore(self, work: Callable[..., None], *about: Any, **more: Any) -> None:
        task = asyncio.create_task(asyncio.to_thread(work, *about, **more))
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        _heard(task)  # what could not be deleted now is tried again at the next collection

    def _end(self, record: Record) -> asyncio.Task[None]:
        """The one task that brings this instance to its end."""
        task = self._ending.get(record.id)
        if task is None:
            task = self._ending[record.id] = asyncio.create_task(self._bring_to_end(record))
            task.add_done_callback(functools.partial(_settled, self._ending, record.id))
        return task

    async def _bring_to_end(self, record: Record) -> None:
        if await end.end(self._home, record.id, grace_s=record.grace_s):
            self._present.notice()
            self._present.look(record.id)
            self._tell(f"{record.id} has ended")

    async def _carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """What was begun is finished, also when the caller does not wait for it."""
        task = asyncio.create_task(work)
        task.add_done_callback(_heard)
        return await asyncio.shield(task)

    def _with_facts(self, described: Description) -> Description:
        facts = msgspec.Raw(msgspec.json.encode(self._present.facts(described.id)))
        return msgspec.structs.replace(described, properties=facts)


def _no_log(instance: InstanceID) -> NotFound:
    return NotFound(f"there is no log of {instance}", remedy="logs of the dead are kept for a day")


def _settled(tasks: dict[K, asyncio.Task[None]], key: K, task: asyncio.Task[None]) -> None:
    tasks.pop(key, None)
    _heard(task)


def _heard(task: asyncio.Task[Any]) -> None:
    """Whoever awaited it has the error; when nobody does any more, it is of no use to anyone."""
    if not task.cancelled():
        task.exception()
