"""The daemon: everything one replica needs, started in order and stopped in reverse order.

The lock is acquired first, because the state must have one owner; then the journal and the store are opened, then the
replica starts, and the socket opens last: a client that connects finds the daemon complete. A single replica is active
by then; one of several follows the leader, and answers requests even while there is none.
"""

import asyncio
import contextlib
import os
import random
import re
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

import infrakit
from infrakit.events.journal import Journal
from infrakit.events.topics import JournalTopics
from infrakit.group.state.member import Member
from infrakit.manager.api.forward import Relay
from infrakit.manager.api.manager import Operator
from infrakit.manager.api.roster import ReplicaEntry, Roster
from infrakit.manager.compat.group import GroupPlugin
from infrakit.manager.compat.stack import GroupController, ManagerStack
from infrakit.manager.compat.status import StatusTree
from infrakit.manager.lead import watermark
from infrakit.manager.lead.heartbeat import Heartbeat
from infrakit.manager.lead.last_read import LAST_READ, LastReadFile
from infrakit.manager.lead.replica import Replica
from infrakit.manager.monitoring import endpoints
from infrakit.manager.monitoring.metrics import Counters
from infrakit.rpc import discovery, interfaces
from infrakit.rpc.listen import Listen
from infrakit.rpc.server import Server
from infrakit.runtime import sources, watchdog
from infrakit.runtime.lock import StateLock
from infrakit.runtime.registry import Registry
from infrakit.runtime.sources import Place
from infrakit.runtime.tree.root import Tree
from infrakit.spi import errors, formats, values
from infrakit.spi.clock import Clock, SystemClock
from infrakit.spi.controller import Controller
from infrakit.spi.event import Event, Kind, Topics, timestamp
from infrakit.spi.group import DURATION_PATTERN, Groups, seconds
from infrakit.spi.leadership import TakesOver
from infrakit.spi.manager import Halt, Manager
from infrakit.spi.metadata import Metadata, Updatable, Versioned
from infrakit.spi.metadata import Tree as Facts
from infrakit.spi.stack import Stack

POLL_VARIABLE = "INFRAKIT_GROUP_POLL_INTERVAL"
SELF_VARIABLE = "INFRAKIT_GROUP_SELF_LOGICAL_ID"
ACTIVE_DEADLINE_S = 60.0
STORE_RETRY_S = 1.0
TRANSFER_S = 5.0
VARS = "vars"
OWN_METADATA = (VARS, "manager")  # metadata plugins that are part of every daemon
# Interfaces that operators and the original's tools rely on: a daemon that lacks one of these does not start.
REQUIRED = {
    ".": (Manager, Stack, Topics),
    "groups": (Groups, Controller),
    VARS: (Updatable, Versioned),
    "status": (Metadata,),
    "metadata": (Facts,),
}


class Daemon:
    """One replica, with its state in `home`; an async context manager."""

    def __init__(
        self,
        home: Path,
        place: Place | None = None,
        *,
        listen: Listen | None = None,
        clock: Clock | None = None,
        only_destroys: Halt | None = None,
    ) -> None:
        """With `only_destroys`, groups that are not to be destroyed are observed, and halted with that halt."""
        self._place = place = place or Place()
        self._listen = listen
        self.home = home
        self.stop = asyncio.Event()
        clock = clock or SystemClock()
        rng = random.SystemRandom()
        self._lock = StateLock(home, started=timestamp(clock.now()))
        self.journal = Journal(home.absolute() / "events", clock=clock)
        self._counters = Counters(self.journal.emit)
        self.registry = Registry(home, clock=clock, random=rng)
        self._store = sources.store(place.store, home)
        self._leadership = sources.leadership(place.leadership, place.name)
        self._replica = Replica(
            name=place.name,
            store=self._store,
            leadership=self._leadership,
            plugins=self.registry,
            clock=clock,
            random=rng,
            emit=self._counters.emit,
            poll_s=_poll_s(),
            is_self=_is_self,
            watermark=watermark.on_disk(home / "seen.json", accept=place.accept_store),
            last_read=LastReadFile(home / LAST_READ, clock),
            only_destroys=only_destroys,
        )
        self._roster = Roster(self._store, place.name, self._entry())
        self.operator = Operator(self._replica, history=self.journal, stop=self.stop.set)
        self._relay = Relay(self.operator, self._replica, self._roster)
        self.registry.offer(store=self._store, manager=self._relay)
        own = {name: self.registry.create(Metadata, name) for name in OWN_METADATA}
        self.tree = Tree(self.registry, own)
        self.registry.offer(facts=self.tree.snapshot)
        self._vars = own[VARS]
        self._running: asyncio.Task[None] | None = None
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._lock)
            await stack.enter_async_context(self.journal)
            stack.push_async_callback(self._store.close)
            stack.push_async_callback(sources.close, self._leadership)
            stack.push_async_callback(self.registry.close)
            stack.push_async_callback(self.tree.close)
            if self._place.is_single:
                await self._replica.check_store()
            self._running = asyncio.get_running_loop().create_task(self._run())
            stack.push_async_callback(self._stop_replica)
            watched = asyncio.get_running_loop().create_task(
                watchdog.feed(lambda: self._replica.progressed_at, self._report_stalled)
            )
            stack.callback(watched.cancel)
            if self._place.is_single:
                await self._until_active()
            pages = endpoints.pages(self._replica, self.operator, self._counters)
            server = Server(
                discovery.manager_socket(),
                self._served(),
                events=self.journal,
                pages=await stack.enter_async_context(pages),
                listen=self._listen,
            )
            await stack.enter_async_context(server)
            self._open = stack.pop_all()
        return self

    def _served(self) -> dict[str, object | tuple[object, ...]]:
        """Return the objects that the manager's socket serves: InfraKit's own interface, and those of the original."""
        groups = GroupPlugin(self._replica, self.operator)
        stack = ManagerStack(self._replica, self._roster)
        served: dict[str, object | tuple[object, ...]] = {
            ".": (self._relay, stack, JournalTopics(self.journal)),
            "groups": (groups, GroupController(self._replica, groups)),
            VARS: self._vars,
            "status": StatusTree(self._replica),
            "metadata": self.tree,
        }
        interfaces.require(served, REQUIRED)
        return served

    def _entry(self) -> ReplicaEntry:
        own = self._listen.url if self._listen else str(discovery.manager_socket().absolute())
        return ReplicaEntry(
            address=sources.advertised(self._place.advertise) if self._place.advertise else own,
            version=infrakit.__version__,
            format=formats.FORMAT,
            policies=formats.POLICIES,
            has_heartbeat=True,
            host=os.uname().nodename,
            pid=os.getpid(),
            started=self._replica.started,
        )

    def _report_stalled(self, why: str) -> None:
        self.journal.emit(Event(type=Kind.ERROR, message=why))

    async def _run(self) -> None:
        if self._place.is_single:
            await self._replica.run()
            return
        await self._until_checked()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._roster.keep())
            tasks.create_task(self._replica.run())
            if isinstance(self._leadership, TakesOver):
                tasks.create_task(self._heartbeat(self._leadership).run())

    def _heartbeat(self, leadership: TakesOver) -> Heartbeat:
        async def replicas() -> Collection[str]:
            entries = await self._roster.entries()
            return entries.keys() if all(each.has_heartbeat for each in entries.values()) else ()

        async def take_over(leader: str) -> None:
            why = f"most replicas miss the heartbeat of the one on {leader}: moving the leadership to this node"
            self.journal.emit(Event(type=Kind.ERROR, message=why))
            await leadership.take_over(leader=leader)

        def progresses() -> bool:
            return asyncio.get_running_loop().time() - self._replica.progressed_at <= watchdog.STALLED_S

        return Heartbeat(
            self._store,
            self._place.name,
            observed=lambda: self._replica.valid_observation,
            progresses=progresses,
            replicas=replicas,
            take_over=take_over,
        )

    async def _until_checked(self) -> None:
        """Wait for a store that other processes host, which may start after this replica. Raises `Refused`."""
        reported = ""
        while True:
            try:
                return await self._replica.check_store()
            except (errors.Unreachable, errors.OutcomeUnknown, errors.Throttled, TimeoutError) as error:
                why = f"waiting for the store: {str(error) or 'it does not answer'}"
                if why != reported:
                    self.journal.emit(Event(type=Kind.WAITING, message=why))
                    reported = why
            await asyncio.sleep(STORE_RETRY_S)

    async def _until_active(self) -> None:
        active = asyncio.get_running_loop().create_task(self._replica.active.wait())
        running = self._running
        waiting = {active} if running is None else {active, running}
        await asyncio.wait(waiting, timeout=ACTIVE_DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        if active.done():
            return
        active.cancel()
        if running is not None and running.done():
            await running
        raise errors.Unreachable(
            f"the replica was not active within {ACTIVE_DEADLINE_S:.0f} s", where=str(self.home.absolute())
        )

    async def _transfer_leadership(self) -> None:
        """On a requested stop, transfer leadership to another replica if this one leads and the source supports it."""
        if self._place.is_single or not self.stop.is_set():
            return
        with contextlib.suppress(errors.InfraKitError, TimeoutError):
            async with asyncio.timeout(TRANSFER_S):
                others = (await self._roster.entries()).keys() - {self._place.name}
                if others and self._replica.active.is_set():
                    await self._replica.resign(self._place.name, "it stops")

    async def _stop_replica(self) -> None:
        await self._transfer_leadership()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def run(self) -> None:
        """Run until a stop is requested; raise if the replica fails."""
        if self._running is None:
            return
        stop = asyncio.get_running_loop().create_task(self.stop.wait())
        await asyncio.wait({stop, self._running}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self._running.done():
            await self._running

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()


def _poll_s() -> float:
    text = os.environ.get(POLL_VARIABLE, "1s")
    if not re.fullmatch(DURATION_PATTERN, text):
        raise errors.Refused(
            f"{text!r} is no duration", where=POLL_VARIABLE, remedy='write it as "500ms", "1s" or "1m"'
        )
    return max(0.05, seconds(text))


def _is_self(member: Member) -> bool:
    """Whether this daemon runs on that very instance, according to its environment."""
    own = os.environ.get(SELF_VARIABLE)
    tags = member.description.tags or {}
    return (bool(own) and own in (member.logical_id, tags.get(values.TAG_LOGICAL_ID))) or (
        os.environ.get("INFRAKIT_INSTANCE_ID") == member.id
    )
