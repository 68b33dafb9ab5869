"""A cluster that hosts its own replicas, as `infrakit up FILE` starts it from outside and stays to watch.

Nothing of it is kept here. If no replica answers, the first machine is made as `infrakit bootstrap` makes it, with the
same refusals. The replica on it may start with an empty store: it leads, and waits. Then FILE is committed through
whichever replica answers, with the version that was seen, so that two who do so at once cannot overwrite each other in
silence. All else, other groups too, is made by the replicas. Then statuses come from whoever answers, and the events of
all replicas from each itself, because each keeps a journal of its own; the view outlives every single one of them.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from infrakit.lifecycle.access import COMMIT_S, ViaReplica
from infrakit.lifecycle.first_machine import BootstrapRequest, grow
from infrakit.lifecycle.replicas import Replicas, SelfHosted, self_hosted
from infrakit.lifecycle.view import View
from infrakit.manager.declaration import validate
from infrakit.rpc import client, discovery, streams
from infrakit.runtime.lock import StateLock
from infrakit.runtime.registry import Registry
from infrakit.spec import document as documents
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from infrakit.spi.event import Event, Kind, timestamp
from infrakit.spi.group import Group
from infrakit.spi.manager import Committed, Halt, MemberStatus, Status

POLL_S = 0.25  # between two statuses
RETRY_S = 0.5  # after nobody has answered
STATUS_S = 1.5  # for one replica, before another is asked
SLOW_S = 8.0  # the same once none has told in that time: followers ask the leader, and an election takes longer
QUIET_S = 4 * streams.HEARTBEAT_S  # of a stream of events, before it counts as broken
VERSIONS_MAX = 3  # that others commit while we try to

Report = Callable[[str], object]


async def find(text: str, source: str, *, home: Path) -> SelfHosted | None:
    """Where the replicas of what a document declares should answer. None: it declares no such cluster.

    One that is wrong, or whose plugins do not answer, declares none: whoever uses it next says what is wrong.
    """
    draft = documents.read(text, source=source)
    if draft.problems:
        return None
    registry = Registry(home)
    try:
        return await self_hosted(draft.groups, registry)
    except errors.InfraKitError:
        return None
    finally:
        await registry.close()


async def start(request: BootstrapRequest, hosts: SelfHosted, *, home: Path, report: Report) -> Committed:
    """Make the first machine if nobody answers, and commit what `plan` declares.

    Raises what `bootstrap` does, and `Conflict` if somebody else declares something else at the same time.
    """
    clock = SystemClock()
    registry = Registry(home, clock=clock)
    try:
        groups = await validate.checked(request.text, request.source, registry)
        async with Replicas(hosts.places) as replicas:
            access = ViaReplica(replicas)
            if not await access.answers():
                report(f"no replica answers at {', '.join(replicas.places)}")
                async with _alone(home, request.patience_s, report):
                    await grow(request, groups, plugins=registry, access=access, clock=clock, report=report)
            report(f"a replica answers at {replicas.at}")
            return await _commit(access, groups, request)
    finally:
        await registry.close()


@contextlib.asynccontextmanager
async def _alone(home: Path, patience_s: float, report: Report) -> AsyncIterator[None]:
    """With the lock of this home. If another command has it, it may be making the first machine: wait for that."""
    loop, arguments = asyncio.get_running_loop(), ""
    until = loop.time() + patience_s
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(StateLock(home, started=now()))
                break
            except errors.Refused as held:
                if discovery.manager_socket().exists() or loop.time() >= until:
                    raise  # a daemon has it, for good
                if not arguments:
                    report(f"{held.what}, which may be making the first machine: waits for it")
                arguments = held.what
            await asyncio.sleep(RETRY_S)
        yield


async def _commit(access: ViaReplica, groups: tuple[Group, ...], request: BootstrapRequest) -> Committed:
    """Nothing is committed that is declared already, in the same words or in others."""
    for _attempt in range(VERSIONS_MAX):
        version = await access.version()
        if version and await _declared(access, version, groups):
            return Committed(version=version)
        arguments = {
            "text": request.text,
            "source": request.source,
            "who": request.who,
            "why": request.why,
            "expected": version,
        }
        try:
            committed: Committed = await access.replicas.ask("commit", within_s=COMMIT_S, **arguments)
        except errors.Conflict as error:  # who was first may have said the same, also we ourselves
            newest = await access.version()
            if newest == version or not await _declared(access, newest, groups):
                raise error from None
        else:
            return committed
    raise errors.Conflict("others keep changing the declaration", remedy="try again")


async def _declared(access: ViaReplica, version: int, groups: tuple[Group, ...]) -> bool:
    text = await access.replicas.ask("show", version=version)
    there = {group.name: group for group in documents.read(text, source=f"version {version}").groups}
    return all(_same(there.get(group.name), group) for group in groups)


def _same(one: Group | None, other: Group) -> bool:
    return one is not None and documents.render([one]) == documents.render([other])


# -- watching ----------------------------------------------------------------------------------------------------------


def now() -> str:
    """The moment from which a view shows events."""
    return timestamp(SystemClock().now())


def watch(places: tuple[str, ...], view: View, *, since: str) -> None:
    """Show what happens, and what has happened since a moment, until Ctrl-C. Replicas may come and go meanwhile."""
    asyncio.run(_watch(places, view, since))


async def _watch(places: tuple[str, ...], view: View, since: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        shown = [tasks.create_task(_events(place, since, view)) for place in places]
        shown.append(tasks.create_task(_statuses(places, view)))
        await stop.wait()
        for task in shown:
            task.cancel()


class _ReplicaEvents:
    """What is said of the replicas themselves, each time it has changed."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._failure = ""  # what is wrong; empty: nothing
        self._halts: tuple[Halt, ...] = ()

    def switched(self, after: str, before: str, why: str) -> None:
        self.emit(f"the replica at {before} does not answer any more ({why}): asks the one at {after}")

    def failed(self, what: str, detail: str) -> None:
        """The detail changes every moment, and is told with the first."""
        if what != self._failure:
            self.emit(f"{what}: {detail}")
        self._failure = what

    def recovered(self, at: str, status: Status) -> None:
        if self._failure:
            self.emit(f"the replica at {at} tells again: {status.leading or status.replica} leads")
        self._failure = ""
        for halt in status.halts:
            if halt not in self._halts:
                self.emit(f"{halt.group or 'everything'} is halted by {halt.who}: {halt.why}; lift it: infrakit unhalt")
        self._halts = status.halts

    def emit(self, message: str) -> None:
        self._view.event(Event(type=Kind.WAITING, timestamp=now(), message=message))


async def _statuses(places: tuple[str, ...], view: View) -> None:
    replica_events, undecided, within_s = _ReplicaEvents(view), 0, STATUS_S
    async with Replicas(places, replica_events.switched) as replicas:
        while True:
            try:
                status: Status = await replicas.ask("status", within_s=within_s)
            except errors.InfraKitError as error:
                within_s = SLOW_S
                replica_events.failed("nobody tells how it stands", str(error))
                await asyncio.sleep(RETRY_S)
                continue
            within_s = STATUS_S
            if status.note:  # it cannot tell; another one may
                undecided += 1
                if undecided > len(places):
                    replica_events.failed("nobody leads now, as far as they can tell", status.note)
                await replicas.turn()
            else:
                undecided = 0
                replica_events.recovered(replicas.at, status)
                view.status(status, await _members(replicas))
            await asyncio.sleep(POLL_S)


async def _members(replicas: Replicas) -> tuple[MemberStatus, ...]:
    try:
        members: tuple[MemberStatus, ...] = await replicas.ask("members", within_s=STATUS_S)
    except errors.InfraKitError:
        return ()  # the next status tells why
    return members


async def _events(place: str, since: str, view: View) -> None:
    """Those of one replica from a moment on, whether or not it is there. A new one has a journal of its own."""
    while True:
        with contextlib.suppress(errors.InfraKitError):  # the statuses tell who does not answer
            async for event in client.events(place, quiet_s=QUIET_S):
                if event.timestamp > since:
                    since = event.timestamp
                    view.event(event)
        await asyncio.sleep(RETRY_S)
