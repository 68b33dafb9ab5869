"""`infrakit up FILE` for a self-hosted cluster: start it from outside, commit FILE, and watch.

No state is stored on this machine. If no replica answers, the first machine is created as `infrakit bootstrap` does it,
with the same safety checks. Its replica may start with an empty store: it leads, and waits for a declaration. FILE is
then committed through any replica that answers, with the version that was read, so that concurrent commits conflict
instead of silently overwriting each other. The replicas create everything else, other groups included. The view polls
the status from one replica at a time, and follows the events of every replica, because each has a journal of its own;
it survives the failure of any single replica.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from infrakit.lifecycle.access import COMMIT_S, ViaReplica
from infrakit.lifecycle.first_machine import BootstrapRequest, ensure_store
from infrakit.lifecycle.replicas import Replicas, SelfHosted, self_hosted
from infrakit.lifecycle.request import consent_named
from infrakit.lifecycle.view import View
from infrakit.manager.declaration import validate
from infrakit.manager.lead.last_read import LAST_READ, LastReadFile
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
RETRY_S = 0.5  # delay after an attempt that no replica answered
STATUS_S = 1.5  # timeout for one replica, before the next is tried
SLOW_S = 8.0  # timeout after a failure: followers forward to the leader, and an election takes longer
QUIET_S = 4 * streams.HEARTBEAT_S  # an event stream without a heartbeat for that long counts as broken
VERSIONS_MAX = 3  # attempts to commit while others commit concurrently

Report = Callable[[str], object]


async def find(text: str, source: str, *, home: Path) -> SelfHosted | None:
    """Return the addresses of the declared replicas; None if the document declares no self-hosted cluster.

    Also None if the document is invalid or its plugins do not answer; the next step that reads it reports that.
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
    """Create the first machine if no replica answers, and commit what `request` declares.

    Raises what `bootstrap` raises, and `Conflict` if another user commits a different declaration at the same time.
    """
    clock = SystemClock()
    registry = Registry(home, clock=clock)
    try:
        groups = await validate.checked(request.text, request.source, registry)
        async with Replicas(hosts.places) as replicas:
            access, lock = ViaReplica(replicas), contextlib.AsyncExitStack()
            async with lock:
                if not await access.answers():
                    report(f"no replica answers at {', '.join(replicas.places)}")
                    await lock.enter_async_context(_locked(home, request.timeout_s, report))
                last = LastReadFile(home / LAST_READ, clock).before
                adopts = await ensure_store(
                    request, groups, plugins=registry, access=access, clock=clock, report=report, last=last
                )
            report(f"a replica answers at {replicas.at}")
            return await _commit(access, groups, request, adopts)
    finally:
        await registry.close()


@contextlib.asynccontextmanager
async def _locked(home: Path, timeout_s: float, report: Report) -> AsyncIterator[None]:
    """Hold the lock of this home; wait for another command that holds it, and may be creating the first machine."""
    loop, waiting = asyncio.get_running_loop(), False
    until = loop.time() + timeout_s
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(StateLock(home, started=now()))
                break
            except errors.Refused as held:
                if discovery.manager_socket().exists() or loop.time() >= until:
                    raise  # a daemon holds it, and does not release it while it runs
                if not waiting:
                    report(f"{held.what}, which may be creating the first machine: waiting for it")
                waiting = True
            await asyncio.sleep(RETRY_S)
        yield


async def _commit(access: ViaReplica, groups: tuple[Group, ...], request: BootstrapRequest, adopts: str) -> Committed:
    """Commit, unless the cluster already declares the same groups, however they are written.

    `adopts`: the cluster that the tokens of its first machines name; empty if there is none to adopt.
    """
    for _attempt in range(VERSIONS_MAX):
        version = await access.version()
        if version and await _declared(access, version, groups):
            if adopts:
                version = await access.adopt(adopts, who=request.who, why=request.why)
            return Committed(version=version, unchanged=True)
        arguments = {
            "text": request.text,
            "source": request.source,
            "who": request.who,
            "why": request.why,
            "expected": version,
            "destroys": request.destroys,
            "adopts": adopts,
        }
        try:
            with consent_named("infrakit up"):
                committed: Committed = await access.replicas.ask("commit", within_s=COMMIT_S, **arguments)
        except errors.Conflict as error:  # the other commit may declare the same, or be an earlier attempt of this one
            newest = await access.version()
            if newest == version or not await _declared(access, newest, groups):
                raise error from None
        else:
            return committed
    raise errors.Conflict("other clients keep changing the declaration", remedy="retry")


async def _declared(access: ViaReplica, version: int, groups: tuple[Group, ...]) -> bool:
    text = await access.replicas.ask("show", version=version)
    declared = {group.name: group for group in documents.read(text, source=f"version {version}").groups}
    return all(_same(declared.get(group.name), group) for group in groups)


def _same(one: Group | None, other: Group) -> bool:
    return one is not None and documents.render([one]) == documents.render([other])


# -- watching ----------------------------------------------------------------------------------------------------------


def now() -> str:
    """Return the current timestamp, from which a view shows events."""
    return timestamp(SystemClock().now())


def watch(places: tuple[str, ...], view: View, *, since: str) -> None:
    """Show status and events after `since`, until Ctrl-C. Replicas may start and stop meanwhile."""
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
    """Emits an event each time the reachability of the replicas or a halt changes."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._failure = ""  # the failure last reported; empty: none
        self._halts: tuple[Halt, ...] = ()

    def switched(self, after: str, before: str, why: str) -> None:
        self.emit(f"the replica at {before} stopped answering ({why}): using the one at {after}")

    def failed(self, what: str, detail: str) -> None:
        """Report a failure once. Its detail differs on every attempt, so only the first detail is shown."""
        if what != self._failure:
            self.emit(f"{what}: {detail}")
        self._failure = what

    def recovered(self, at: str, status: Status) -> None:
        if self._failure:
            self.emit(f"the replica at {at} answers again: {status.leading or status.replica} leads")
        self._failure = ""
        for halt in status.halts:
            if halt not in self._halts:
                self.emit(f"{halt.group or 'everything'} is halted by {halt.who}: {halt.why}; lift it: infrakit unhalt")
        self._halts = status.halts

    def emit(self, message: str) -> None:
        self._view.event(Event(type=Kind.WAITING, timestamp=now(), message=message))


async def _statuses(places: tuple[str, ...], view: View) -> None:
    replica_events, without_leader, within_s = _ReplicaEvents(view), 0, STATUS_S
    async with Replicas(places, replica_events.switched) as replicas:
        while True:
            try:
                status: Status = await replicas.ask("status", within_s=within_s)
            except errors.InfraKitError as error:
                within_s = SLOW_S
                replica_events.failed("no replica reports a status", str(error))
                await asyncio.sleep(RETRY_S)
                continue
            within_s = STATUS_S
            if status.note:  # this replica knows no leader; another one may
                without_leader += 1
                if without_leader > len(places):
                    replica_events.failed("no replica knows of a leader", status.note)
                await replicas.switch()
            else:
                without_leader = 0
                replica_events.recovered(replicas.at, status)
                view.status(status, await _members(replicas) if view.is_live else ())
            await asyncio.sleep(POLL_S)


async def _members(replicas: Replicas) -> tuple[MemberStatus, ...]:
    try:
        members: tuple[MemberStatus, ...] = await replicas.ask("members", within_s=STATUS_S)
    except errors.InfraKitError:
        return ()  # the next status reports why
    return members


async def _events(place: str, since: str, view: View) -> None:
    """Show the events of one replica after `since`, reconnecting while it is down. Each replica has its own journal."""
    while True:
        with contextlib.suppress(errors.InfraKitError):  # the status poll reports which replica does not answer
            async for event in client.events(place, quiet_s=QUIET_S):
                if event.timestamp > since:
                    since = event.timestamp
                    view.event(event)
        await asyncio.sleep(RETRY_S)
