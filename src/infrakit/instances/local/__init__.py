"""The provider `local`: every instance is a process group of this machine, with its own directory.

Instances outlive the daemon that created them, and a restarted daemon finds them. The provider trusts no state in
memory: the files record what was created, the kernel reports what runs (see `home` for the files, `records` for the
life cycle of an instance).

    properties  what can be declared
    home        the directory, its locks, and durable writes
    processes   identifying processes without mistaking a reused PID
    spawn       starting a process so that a crash leaves nothing half-done
    records     an instance, its phases, its claims
    make, end   provision and destroy
    present     the listing, as cheap as the kernel allows
    collect     garbage collection
    tail        reading the end of a log
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
from infrakit.instances.local.records import VOLUME, InstanceRecord
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
_TERMINATIONS_PER_COLLECTION = 100


class Local:
    """Runs instances as processes. Satisfies `Instance`, `Capable`, `Inspects`, `Watches`, `Logs`, `Tails`, `Volumes`,
    `Keeps` and `Identified`.

    An operation completes even if its call is cancelled: no instance is left half-created.
    """

    def __init__(self, directory: pathlib.Path, *, clock: Clock = _SYSTEM_CLOCK) -> None:
        spawn.make_non_inheritable()
        self._home = Home(directory)
        self._clock = clock
        self._present = Present(
            self._home,
            emit=self._emit_hint,
            terminated=self._terminated,
            finished=self._finished,
            destroy=self._start_destroy,
        )
        self._creating: dict[InstanceID, asyncio.Task[None]] = {}
        self._destroying: dict[str, asyncio.Task[None]] = {}
        self._background_tasks: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Queue[str]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._terminations = 0

    async def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    async def identity(self) -> str:
        return await asyncio.to_thread(self._home.identity)

    async def validate(self, *, properties: msgspec.Raw) -> None:
        decode(properties)

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        self._attach_to_loop()
        try:
            declared = decode(spec.properties)
        except InvalidSpec as error:
            raise Refused(f"its properties are wrong: {error}") from error
        id_ = make.instance_id(spec)
        task = self._creating.get(id_)
        if task is None:
            creating = asyncio.to_thread(make.make, self._home, id_, spec, declared)
            task = self._creating[id_] = asyncio.create_task(creating)
            task.add_done_callback(functools.partial(_task_done, self._creating, id_))
        await asyncio.shield(task)
        return id_

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        self._attach_to_loop()
        await self._run_to_completion(asyncio.to_thread(records.label, self._home, instance, dict(labels)))

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:  # noqa: ARG002
        self._attach_to_loop()
        if creating := self._creating.get(instance):
            await asyncio.wait([creating])
        if record := await self._run_to_completion(asyncio.to_thread(records.mark_for_destroy, self._home, instance)):
            await asyncio.shield(self._start_destroy(record))

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        self._attach_to_loop()
        wanted = tags.items()
        found = [each for each in self._present.all() if wanted <= (each.tags or {}).items()]
        return [self._with_properties(each) for each in found] if properties else found

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        self._attach_to_loop()
        self._present.collect_exits()
        found = self._present.observe(instance)
        return self._with_properties(found) if found is not None else None

    async def watch(self) -> AsyncIterator[str]:
        """Yield hints about the instances that this object has created or listed."""
        hints: asyncio.Queue[str] = asyncio.Queue(_HINTS_MAX)
        self._watchers.add(hints)
        try:
            self._attach_to_loop()
            await self.describe_instances(tags={})
            while True:
                yield await hints.get()
        finally:
            self._watchers.discard(hints)

    async def logs(self, *, instance: InstanceID, lines: int) -> str:
        if records.is_id(instance):
            for place in (self._home.instances, self._home.dead_logs):
                with contextlib.suppress(FileNotFoundError):
                    text, _ = await asyncio.to_thread(tail.read, place / instance / "log", lines)
                    return text
        raise _no_log(instance)

    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 0) -> LogPart:
        if records.is_id(instance):
            for place, ended in ((self._home.instances, False), (self._home.dead_logs, True)):
                path = place / instance / "log"
                with contextlib.suppress(FileNotFoundError):
                    if after is None:
                        text, end = await asyncio.to_thread(tail.read, path, lines)
                    else:
                        text, end = await asyncio.to_thread(tail.read_after, path, max(0, after), ended=ended)
                    return LogPart(text=text, position=end, ended=ended and (after is None or not text))
        raise _no_log(instance)

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        self._attach_to_loop()
        if attachment.type != VOLUME:
            raise Refused(
                f"the attachment {attachment.id} is of type {attachment.type!r}; the only supported type is {VOLUME!r}"
            )
        await self._run_to_completion(asyncio.to_thread(collect.delete_volume, self._home, attachment.id))

    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        def find() -> list[Attachment]:
            return [each for each in attachments if each.type == VOLUME and collect.has_volume(self._home, each.id)]

        return await asyncio.to_thread(find)

    async def close(self) -> None:
        """Wait for operations in progress, then close all files. Instances keep running."""
        in_progress = {*self._creating.values(), *self._background_tasks}
        if in_progress:
            await asyncio.wait(in_progress)
        for task in self._destroying.values():  # the next daemon continues: the record is marked
            task.cancel()
        if self._destroying:
            await asyncio.wait(self._destroying.values())
        if self._loop is not None:
            self._loop.remove_reader(self._present.fileno())
            self._loop = None
        self._present.close()

    # -- in the background -----------------------------------------------------------------------------------------

    def _attach_to_loop(self) -> None:
        """Watch for exits in the loop that uses this object, and once clean up after a possible crash."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.add_reader(self._present.fileno(), self._present.collect_exits)
            self._collect_garbage()

    def _emit_hint(self, hint: str) -> None:
        for hints in self._watchers:
            with contextlib.suppress(asyncio.QueueFull):  # a reader this far behind lists all instances anyway
                hints.put_nowait(hint)

    def _terminated(self, instance_id: str) -> None:
        self._run_in_background(collect.clear, self._home, instance_id, terminated_at=self._clock.now())
        self._terminations += 1
        if self._terminations % _TERMINATIONS_PER_COLLECTION == 0:
            self._collect_garbage()

    def _finished(self, instance_id: str) -> None:
        self._run_in_background(records.sync_exit_code, self._home, instance_id)

    def _collect_garbage(self) -> None:
        self._run_in_background(collect.collect, self._home, now=self._clock.now())

    def _run_in_background(self, work: Callable[..., None], *about: Any, **more: Any) -> None:
        task = asyncio.create_task(asyncio.to_thread(work, *about, **more))
        self._background_tasks.add(task)
        task.add_done_callback(self._background_task_done)

    def _background_task_done(self, task: asyncio.Task[None]) -> None:
        self._background_tasks.discard(task)
        _retrieve_exception(task)  # the next collection retries what could not be deleted

    def _start_destroy(self, record: InstanceRecord) -> asyncio.Task[None]:
        """Return the only task that destroys this instance; start it if there is none."""
        task = self._destroying.get(record.id)
        if task is None:
            task = self._destroying[record.id] = asyncio.create_task(self._run_destroy(record))
            task.add_done_callback(functools.partial(_task_done, self._destroying, record.id))
        return task

    async def _run_destroy(self, record: InstanceRecord) -> None:
        if await end.destroy(self._home, record.id, grace_s=record.grace_s):
            self._present.collect_exits()
            self._present.observe(record.id)
            self._emit_hint(f"{record.id} has terminated")

    async def _run_to_completion(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to completion, even if the caller is cancelled."""
        task = asyncio.create_task(work)
        task.add_done_callback(_retrieve_exception)
        return await asyncio.shield(task)

    def _with_properties(self, described: Description) -> Description:
        facts = msgspec.Raw(msgspec.json.encode(self._present.facts(described.id)))
        return msgspec.structs.replace(described, properties=facts)


def _no_log(instance: InstanceID) -> NotFound:
    return NotFound(f"there is no log of {instance}", remedy="logs of terminated instances are kept for a day")


def _task_done(tasks: dict[K, asyncio.Task[None]], key: K, task: asyncio.Task[None]) -> None:
    tasks.pop(key, None)
    _retrieve_exception(task)


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Mark the exception as retrieved: callers that await the task receive it, and without callers nothing reads it."""
    if not task.cancelled():
        task.exception()
