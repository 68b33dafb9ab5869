"""The provider `docker`: every instance is a container of one Docker Engine.

The only local state is the logs of terminated instances: containers carry their tags and claims as labels, and every
call queries the Engine. An Engine that does not respond proves nothing about its instances.

    properties    what can be declared
    config        the one API call that creates an instance
    records       a container as an instance: its labels, its state
    make          create, check for conflicts, start
    changed_tags  tags that change after the creation
    dead_logs     logs of terminated instances

The environment names the Engine, as for Docker's own tools: DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
"""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from infrakit.clients import dockerd as client
from infrakit.clients.docker import Engine
from infrakit.events import last_line
from infrakit.instances.docker import changed_tags, config, make, records
from infrakit.instances.docker.dead_logs import LINES, DeadLogs
from infrakit.instances.docker.properties import Properties, decode
from infrakit.instances.docker.records import VOLUME, ContainerRecord
from infrakit.spi import errors
from infrakit.spi.clock import Clock, SystemClock
from infrakit.spi.instance import Capabilities, DestroyContext
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec, State

__all__ = ["Docker"]

_CAPABILITIES = Capabilities(listing_lag_s=0.0, tokens=True)
_SYSTEM_CLOCK = SystemClock()
_LOG_END_S = 2.0
_LOG_END_LINES = 10  # the last of them may be empty
_POLLS, _POLL_S = 50, 0.01
_EXITED_MAX = 20  # exited containers kept for `docker logs`; older ones are removed, and their logs are stored
_RECONNECT_S_MIN, _RECONNECT_S_MAX = 0.1, 5.0
_EVENTS = {
    "create": "was created",
    "start": "was started",
    "die": "exited",
    "destroy": "was removed",
    "pause": "was paused",
    "unpause": "was unpaused",
    "oom": "ran out of memory",
    "health_status": "has health status",
}


class Docker:
    """Runs instances as containers.

    Satisfies `Instance`, `Capable`, `Inspects`, `Watches`, `Logs`, `Volumes`, `Keeps` and `Identified`.

    A creation completes even if its call is cancelled, which callers do once the listing shows the container: no
    container is left created and not started.
    """

    extra: ClassVar = "docker"

    def __init__(
        self, directory: Path, *, clock: Clock = _SYSTEM_CLOCK, host: str = "", certificates: Path | None = None
    ) -> None:
        """Without `host`, use the Engine that the environment names. Does not connect yet."""
        self._dead_logs = DeadLogs(directory / "logs")
        self._clock = clock
        self._host, self._certificates = host, certificates
        self._client: Engine | None = None
        self._network = asyncio.Lock()  # the Engine does not prevent two networks of one name
        self._creating: dict[InstanceID, asyncio.Task[None]] = {}
        self._descriptions: dict[InstanceID, Description] = {}

    async def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    async def identity(self) -> str:
        return await self._engine.identity()

    async def validate(self, *, properties: msgspec.Raw) -> None:
        decode(properties)

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        try:
            declared = decode(spec.properties)
        except errors.InvalidSpec as error:
            raise errors.Refused(f"its properties are wrong: {error}") from error
        config.check(spec, declared)
        id_ = config.instance_id(spec)
        task = self._creating.get(id_)
        if task is None:
            task = self._creating[id_] = asyncio.create_task(self._create(id_, spec, declared))
            task.add_done_callback(functools.partial(self._creation_done, id_))
        await asyncio.shield(task)
        return id_

    async def _create(self, id_: InstanceID, spec: InstanceSpec, declared: Properties) -> None:
        listed = await self._list()
        own = listed.get(id_)
        if own is not None and own.state is not State.PENDING:
            return
        if own is None:
            make.refuse_duplicate(id_, spec, listed.values())
            await self._remove_exited(make.exited(spec, listed.values()), listed)
            async with self._network:
                container = await make.create(self._engine, id_, spec, declared, now=self._clock.now())
        else:
            container = own.container.id
        await make.complete(self._engine, id_, container, spec, declared, now=self._clock.now())

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        await self._record(instance)
        await changed_tags.change(self._engine, instance, labels)

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:  # noqa: ARG002
        if creating := self._creating.get(instance):
            await asyncio.wait([creating])
        record = await self._record(instance)
        with contextlib.suppress(errors.NotFound):
            await self._engine.stop(record.container.id, grace_s=None)
        await self._remove(record)

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        # Read the changed tags first: a change made before the containers are listed is then never missed.
        changed = await changed_tags.changed(self._engine)
        listed = await self._list()
        self._descriptions = {id_: self._describe(each, changed) for id_, each in listed.items()}
        found = [each for each in self._descriptions.values() if tags.items() <= (each.tags or {}).items()]
        return [_with_properties(each, listed[each.id]) for each in found] if properties else found

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        changed = await changed_tags.changed(self._engine)
        record = await self._find(instance)
        return _with_properties(self._describe(record, changed), record) if record is not None else None

    async def watch(self) -> AsyncIterator[str]:
        """Yield hints until cancelled. Reconnects with back-off when the Engine restarts, with a hint."""
        pause_s = _RECONNECT_S_MIN
        while True:
            try:
                async for event in self._engine.events({"type": ["container"], "label": [records.ID]}):
                    pause_s = _RECONNECT_S_MIN
                    if (hint := _hint(event)) is not None:
                        if event.get("Action") == "die":
                            await self._await_exit_listed(InstanceID(hint.partition(" ")[0]))
                            hint += await self._log_end(event)
                        yield hint
            except errors.InfraKitError:
                await asyncio.sleep(pause_s)
                pause_s = min(_RECONNECT_S_MAX, pause_s * 2)
                yield "the Engine's stream of events was interrupted"

    async def _await_exit_listed(self, instance: InstanceID) -> None:
        """Wait until the listing shows the exit and the address is free, which is shortly after the event."""
        for _ in range(_POLLS):
            record = await self._find(instance)
            if record is None or not record.is_live:
                return
            await asyncio.sleep(_POLL_S)

    async def _log_end(self, event: Mapping[str, Any]) -> str:
        """Return the last line of the log, if it can explain the exit and the Engine returns it within `_LOG_END_S`."""
        actor = event.get("Actor") or {}
        code = str((actor.get("Attributes") or {}).get("exitCode", ""))
        if not code.isdigit() or not last_line.explains_exit(int(code)):
            return ""
        with contextlib.suppress(errors.InfraKitError, TimeoutError):
            async with asyncio.timeout(_LOG_END_S):
                text = await self._engine.logs(str(actor.get("ID", "")), lines=_LOG_END_LINES)
            return last_line.as_suffix(last_line.last_line(text))
        return ""

    async def logs(self, *, instance: InstanceID, lines: int) -> str:
        record = await self._find(instance)
        if record is not None:
            with contextlib.suppress(errors.NotFound):
                return await self._engine.logs(record.container.id, lines=lines)
        stored = await asyncio.to_thread(self._dead_logs.read, instance, lines=lines)
        if stored is None:
            raise errors.NotFound(
                f"there is no log of {instance}", remedy="logs of terminated instances are kept for a day"
            )
        return stored

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        if attachment.type != VOLUME:
            raise errors.Refused(f"the attachment {attachment.id} is of type {attachment.type!r}, not {VOLUME!r}")
        listed = await self._list()
        spec = InstanceSpec(attachments=(attachment,))
        make.refuse_duplicate(InstanceID(attachment.id), spec, listed.values())
        await self._remove_exited(make.exited(spec, listed.values()), {})
        with contextlib.suppress(errors.NotFound):
            await self._engine.remove_volume(attachment.id)

    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        existing = {each.name for each in await self._engine.volumes({})}
        return [each for each in attachments if each.type == VOLUME and each.id in existing]

    async def close(self) -> None:
        """Wait for creations in progress, then close all connections. Instances keep running."""
        if self._creating:
            await asyncio.wait(self._creating.values())
        if self._client is not None:
            await self._client.close()
            self._client = None

    # -- helpers ---------------------------------------------------------------------------------------------------

    @property
    def _engine(self) -> Engine:
        """The client, created on first use: validation works without one. Raises `Refused` for an invalid address."""
        if self._client is None:
            host, certificates = self._host, self._certificates
            if not host:
                host = os.environ.get("DOCKER_HOST") or client.DEFAULT
                if os.environ.get("DOCKER_TLS_VERIFY", "") not in ("", "0"):
                    certificates = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
            self._client = Engine(host, certificates=certificates)
        return self._client

    async def _list(self) -> dict[InstanceID, ContainerRecord]:
        return await make.list_instances(self._engine, now=self._clock.now())

    async def _find(self, instance: InstanceID) -> ContainerRecord | None:
        found = records.records(
            await self._engine.containers({"label": [f"{records.ID}={instance}"]}), now=self._clock.now()
        )
        return found.get(instance)

    def _creation_done(self, id_: InstanceID, task: asyncio.Task[None]) -> None:
        self._creating.pop(id_, None)
        if not task.cancelled():
            task.exception()  # mark it as retrieved: callers receive it, and the controller retries the token

    async def _record(self, instance: InstanceID) -> ContainerRecord:
        record = await self._find(instance)
        if record is None:
            raise errors.NotFound(f"there is no instance {instance}", where="docker")
        return record

    def _describe(self, record: ContainerRecord, changed: changed_tags.Changed) -> Description:
        """Return the description, as the same object while it is unchanged."""
        fresh = record.description({**record.tags, **changed.get(record.id, {})})
        known = self._descriptions.get(record.id)
        return known if known == fresh else fresh

    async def _remove(self, record: ContainerRecord) -> None:
        """Store the log and remove the container; its named volumes are kept."""
        with contextlib.suppress(errors.InfraKitError):  # an unreadable log driver, or an Engine that shuts down
            text = await self._engine.logs(record.container.id, lines=LINES)
            await asyncio.to_thread(self._dead_logs.store, record.id, text, now=self._clock.now())
        with contextlib.suppress(errors.NotFound, errors.Conflict):  # it is being removed already
            await self._engine.remove(record.container.id)
        await changed_tags.forget(self._engine, record.id)

    async def _remove_exited(
        self, exited: Sequence[ContainerRecord], listed: Mapping[InstanceID, ContainerRecord]
    ) -> None:
        """Remove these containers, and all but the newest of the other exited ones.

        Raises `Conflict` if one of `exited` is still listed.
        """
        for each in exited:
            await self._remove(each)
        if exited:
            still_listed = await self._list()
            for each in exited:
                if each.id in still_listed:
                    raise errors.Conflict(f"{each.id} has exited and is not removed yet", where="docker", remedy="wait")
        others = sorted(
            (each for each in listed.values() if not each.is_live and each not in exited),
            key=lambda each: each.container.created,
            reverse=True,
        )
        for each in others[_EXITED_MAX:]:
            with contextlib.suppress(errors.InfraKitError):
                await self._remove(each)


def _with_properties(described: Description, record: ContainerRecord) -> Description:
    container = record.container
    held = {each.id: container.mounts[each.id] for each in record.attachments if each.id in container.mounts}
    facts = {
        "Container": container.id[:12],
        "Name": container.name,
        "Image": container.image,
        "Status": container.status,
        "Addresses": container.addresses,
        "Volumes": held,
    }
    return msgspec.structs.replace(described, properties=msgspec.Raw(msgspec.json.encode(facts)))


def _hint(event: Mapping[str, Any]) -> str | None:
    """Return the hint `ID EVENT` for an event that changes the state of an instance; None for any other event."""
    action = str(event.get("Action", ""))
    attributes = (event.get("Actor") or {}).get("Attributes") or {}
    kind, _, about = action.partition(":")
    if kind not in _EVENTS:
        return None
    what = f"exited with code {attributes.get('exitCode', '?')}" if kind == "die" else _EVENTS[kind]
    return f"{attributes.get(records.ID, '?')} {what}{about}"
