"""A replica: it follows the leadership observer, and holds a leadership term exactly while its node leads.

Observed leadership is necessary and not sufficient: a term starts only once the epoch is acquired in the store, and it
ends when the epoch is lost, whatever the observer still reports.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Mapping

from infrakit.group.orders import Eviction
from infrakit.group.state.member import Member
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.record import DESTROYED, NAME, PROVEN, RecordChange
from infrakit.manager.declaration.store import Declaration
from infrakit.manager.declaration.validate import Plugins
from infrakit.manager.lead.census import Censuses
from infrakit.manager.lead.last_read import LastRead, LastReadFile
from infrakit.manager.lead.ledger import EpochLedger, LedgerDocument
from infrakit.manager.lead.term import Term
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event, Kind, timestamp
from infrakit.spi.leadership import Leadership, Observation, Resigns
from infrakit.spi.manager import Committed, Halt
from infrakit.spi.store import Store
from infrakit.spi.values import GroupID, InstanceID

SELF = "infrakit"  # the author of a change that a controller requests
RETRY_S = 1.0
RESIGN_DEADLINE_S = 15.0
FOLLOWER_POLL_S = 30.0  # the same, where nothing depends on it but what operators see
POLL_S = 2.0  # between two reads of the declaration's version, where no watch reports a change
ADOPT_S = 5.0  # for which a call waits for the adoption of a newer declaration


class Replica:
    """One replica, which runs from `run` until cancelled."""

    def __init__(
        self,
        *,
        name: str,
        store: Store,
        leadership: Leadership,
        plugins: Plugins,
        clock: Clock,
        random: random.Random,
        emit: Callable[[Event], object],
        poll_s: float = 1.0,
        is_self: Callable[[Member], bool] = lambda _member: False,
        watermark: WatermarkGuard | None = None,
        last_read: LastReadFile | None = None,
        only_destroys: Halt | None = None,
    ) -> None:
        self.name = name
        self.plugins = plugins
        self.clock = clock
        self.started = timestamp(clock.now())
        self.declaration = Declaration(store, clock)
        self.term: Term | None = None
        self.active = asyncio.Event()
        self._store = store
        self._watermark = watermark or WatermarkGuard()
        self._last_read = last_read or LastReadFile(None, clock)
        self._leadership = leadership
        self._random = random
        self._emit_event = emit
        self._poll_s = poll_s
        self._is_self = is_self
        self._only_destroys = only_destroys
        self.observation: Observation | None = None  # the last one with an answer
        self._leading: asyncio.Task[None] | None = None
        self._adopted = 0  # the version of the declaration that the controllers match
        self._bound = 0  # the version that binds the calls of all controllers; adopting it completely may take longer
        self._binding = asyncio.Event()  # set when `_bound` has changed, and then replaced
        self._behind = asyncio.Event()  # set when the store may have a newer version
        self._resigned_at = -math.inf
        self._last_failure = ""  # why the last attempt to hold a term failed
        self._deferred_names: set[str] = set()
        self._deferred: asyncio.Queue[tuple[str, Callable[[], Awaitable[None]]]] = asyncio.Queue()

    async def check_store(self) -> None:
        """Raise `Refused` for a store that a retry cannot fix: damaged, from a backup, or of a newer InfraKit."""
        await self.declaration.load()
        await self._ledger().check_store(self.declaration.version)

    async def peek(self) -> LedgerDocument:
        """The current ledger in the store, whichever replica owns it. Raises what the store raises."""
        try:
            return await self._ledger().peek()
        except TimeoutError:
            raise errors.Unreachable("it does not answer", where="store") from None

    @property
    def last_read(self) -> LastRead | None:
        """What an earlier process read from the store, until this one has read it."""
        return self._last_read.before if not self.declaration.version else None

    def _ledger(self) -> EpochLedger:
        return EpochLedger(
            self._store,
            owner=f"{self.name}@{self.started}",
            clock=self.clock,
            random=self._random,
            leads_until=lambda: self.leads_until,
            watermark=self._watermark,
            declaration=NAME,
            bound=self._until_bound,
        )

    @property
    def leads_until(self) -> float:
        """When the last observation that this node leads expires, in loop time."""
        observed = self.observation
        return observed.begun_at + observed.valid_s if observed is not None and observed.leader else -math.inf

    @property
    def valid_observation(self) -> Observation | None:
        """The last observation of who leads; None if there is none, or it has expired."""
        observed = self.observation
        expired = observed is None or asyncio.get_running_loop().time() >= observed.begun_at + observed.valid_s
        return None if expired else observed

    @property
    def progressed_at(self) -> float:
        """The loop time at which the controller that is furthest behind began its newest cycle; infinite without one.

        Leading is not progress: a watchdog would restart replicas while the quorum is lost.
        """
        controllers = self.term.controllers.values() if self.term is not None else ()
        return min((each.began_at for each in controllers), default=math.inf)

    @property
    def why_not_active(self) -> str:
        """Why this replica is not active, as a sentence for users."""
        observed = self.observation
        if observed is None:
            return "no leader has been observed yet"
        if asyncio.get_running_loop().time() < self.leads_until:
            return self._last_failure or "this node leads, and is about to acquire the epoch"
        return (
            observed.note or "another node leads"
            if not observed.leader
            else "the last leadership observation has expired"
        )

    async def run(self) -> None:
        """Follow the observer until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_store())
                tasks.create_task(self._poll_store())
                tasks.create_task(self._run_deferred())
                while True:
                    try:
                        async for observation in self._leadership.observe():
                            await self._follow(observation, tasks)
                    except errors.InfraKitError as error:  # the last observation remains valid until it expires
                        self._emit(Kind.ERROR, f"the leader cannot be observed: {error}")
                    await asyncio.sleep(RETRY_S)
        finally:
            await self._step_down("the replica stops")

    async def _follow(self, observation: Observation, tasks: asyncio.TaskGroup) -> None:
        """Start or stop leading. An inconclusive observation changes nothing: the previous one expires by itself."""
        if observation.leader is None or observation.begun_at <= self._resigned_at:
            return
        self.observation = observation
        if not observation.leader:
            await self._step_down(observation.note or "another node leads")
        elif self._leading is None or self._leading.done():
            self._leading = tasks.create_task(self._lead())

    async def _lead(self) -> None:
        """Hold terms while the node leads: when one ends by itself, acquire a new epoch and start the next."""
        task = asyncio.current_task()
        while asyncio.get_running_loop().time() < self.leads_until:
            try:
                await self._hold_term()
            except* errors.InfraKitError as group:
                self._fail(str(group.exceptions[0]))
            except* TimeoutError:
                self._fail("the store does not answer")
            if task is not None and task.cancelling():
                return  # a cancellation is not raised if the task group fails at the same time
            await asyncio.sleep(RETRY_S)

    def _fail(self, why: str) -> None:
        """Report the reason once, however many retries fail with it."""
        if why != self._last_failure:
            self._last_failure = why
            self._emit(Kind.STOPPED, f"not active: {why}")

    async def resign(self, who: str, why: str) -> None:
        """End the term cleanly, then transfer leadership. Raises `Refused` if the source cannot transfer it."""
        if not isinstance(self._leadership, Resigns):
            raise errors.Refused(
                "this leadership source does not support a transfer", remedy="transfer leadership at the source"
            )
        self._emit(Kind.STOPPED, f"{self.name} resigns, requested by {who}: {why}")
        await self._step_down("it has resigned")
        async with asyncio.timeout(RESIGN_DEADLINE_S):
            await self._leadership.resign()
        self._resigned_at = asyncio.get_running_loop().time()

    async def _hold_term(self) -> None:
        ledger = self._ledger()
        await self.declaration.load()  # without a readable declaration, no epoch is acquired
        await ledger.open()
        try:
            await self._act(ledger)
        finally:
            ledger.resign("its term has ended")
            await ledger.close()

    async def _act(self, ledger: EpochLedger) -> None:
        """Run the term between acquiring an epoch and giving it up."""
        await self.declaration.load()
        await ledger.advance(self.declaration.version)
        term = Term(
            ledger=ledger,
            censuses=Censuses(self._store, ledger),
            plugins=self.plugins,
            callbacks=self,
            clock=self.clock,
            random=self._random,
            emit=self._emit_event,
            poll_s=self._poll_s,
            is_self=self._is_self,
            only_destroys=self._only_destroys,
        )
        self._last_failure = ""
        self._emit(Kind.STARTED, f"{self.name} is active with epoch {ledger.epoch}")
        self.term = term
        self._bound = self.declaration.version  # the term begins with this version
        try:
            await term.run(self.declaration.record, self.active)  # the newest version, which may have changed meanwhile
        finally:
            self.active.clear()
            self.term = None

    async def _step_down(self, why: str) -> None:
        if self._leading is None or self._leading.done():
            return
        self._leading.cancel()
        await asyncio.wait({self._leading})
        self._emit(Kind.STOPPED, f"not active: {why}")

    async def _follow_store(self) -> None:
        """Adopt what other replicas commit. A replica that can no longer read the declaration stops acting."""
        while True:
            try:
                async for version in self.declaration.watch():
                    await self._catch_up(version)
            except (errors.InfraKitError, TimeoutError):
                pass
            await asyncio.sleep(RETRY_S)

    async def _poll_store(self) -> None:
        """Adopt changes without a watch too, which may have broken silently: at an interval, and when a call waits."""
        polled_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._behind.wait()
            now = asyncio.get_running_loop().time()
            if not self._behind.is_set() and self.term is None and now - polled_at < FOLLOWER_POLL_S:
                continue
            self._behind.clear()
            polled_at = now
            try:
                await self._catch_up(await self.declaration.newest())
                if self._last_read.is_stored:
                    term = self.term
                    await self._keep_last_read(term.ledger.contents if term is not None else await self.peek())
            except (errors.InfraKitError, TimeoutError):
                await asyncio.sleep(RETRY_S)

    async def _catch_up(self, version: int) -> None:
        """Adopt the newest declaration unless it is adopted. A replica that can no longer read it stops acting."""
        if version == self._adopted:
            return  # compared with the adopted version, because rejected changes have read newer ones
        try:
            await self.declaration.load()
            await self._advance_watermark()
            await self.adopt()
            await self._keep_last_read()
        except errors.Refused as refused:
            if self.term is not None:
                self.term.abort(refused)

    async def _keep_last_read(self, ledger: LedgerDocument | None = None) -> None:
        await self._last_read.keep(self.declaration.version, self.declaration.record, ledger)

    async def _until_bound(self, version: int) -> None:
        """Return once that version binds every call of the controllers. Raises `NotLeader` if that takes too long.

        Another task adopts it, because that may cancel the call which is waiting here.
        """
        try:
            async with asyncio.timeout(ADOPT_S):
                while self._bound < version:
                    changed = self._binding
                    self._behind.set()
                    await changed.wait()
        except TimeoutError:
            raise errors.NotLeader(
                f"this replica may not act: version {version} of the declaration is not adopted after {ADOPT_S:g} s"
            ) from None

    # -- changes ---------------------------------------------------------------------------------------------------

    async def change(
        self, change: RecordChange, *, what: str, who: str, why: str, expected: int | None = None
    ) -> Committed:
        """Make a change durable, and update the controllers to match it before returning.

        Raises nothing once the change is durable: if adopting it fails, watching the store adopts it later.
        """
        before = self.declaration.version
        committed = await self.declaration.change(change, what=what, who=who, why=why, expected=expected)
        if committed.version != before:
            summary = f"version {committed.version}, {what} by {who}: {why}"
            self._emit(Kind.COMMITTED, "; ".join((summary, *committed.notes)))  # not every interface returns the notes
        await self._advance_watermark()
        try:
            await self.adopt()
        except (errors.InfraKitError, TimeoutError) as error:
            self._emit(
                Kind.ERROR, f"version {committed.version} is stored, but not adopted yet: {error}; it is retried"
            )
        return committed

    def announce_stop(self, who: str, why: str) -> None:
        """Emit the event for a requested stop."""
        self._emit(Kind.STOPPED, f"{self.name} is stopping, requested by {who}: {why}")

    def announce_forgotten(self, replica: str, who: str, why: str) -> None:
        """Emit the event for a replica that was removed from the roster."""
        self._emit(Kind.COMMITTED, f"{replica} is no replica any more, forgotten by {who}: {why}")

    async def _advance_watermark(self) -> None:
        """Raise the high-water mark to the current version. A follower keeps its epoch until it acquires one."""
        ledger = self.term.ledger if self.term is not None else None
        if ledger is not None:
            await ledger.advance(self.declaration.version)
        else:
            await self._watermark.follow(self.declaration.version)

    async def adopt(self) -> None:
        """Update the controllers to match the declaration. If the term ends during that, the next term does it."""
        version = self.declaration.version
        if self.term is not None:
            self.term.bind(self.declaration.record)
        self._bound = version
        changed, self._binding = self._binding, asyncio.Event()
        changed.set()
        with contextlib.suppress(errors.NotLeader):
            if self.term is not None:
                await self.term.adopt(self.declaration.record)
        self._adopted = version

    # -- deferred commands of the controllers ----------------------------------------------------------------------

    async def stop_rollout(self, group: GroupID, *, hash: str, rollback: bool, why: str) -> None:  # noqa: A002
        """Pause the rolling update, or roll back unless the failing version is itself the result of a rollback."""

        async def command() -> None:
            record = self.declaration.record
            if rollback and (group in record.proven or record.orders_of(group).restored != hash):
                await self.change(changes.rollback(group, hash), what="rollback", who=SELF, why=why)
            else:
                now = timestamp(self.clock.now())
                pause = changes.stop_rollout(group, hash, aborted=False, failed=True, who=SELF, when=now, why=why)
                await self.change(pause, what="pause", who=SELF, why=why)

        self._defer(f"stop the rollout of {group} to {hash}", command)

    async def proven(self, group: GroupID, *, hash: str) -> None:  # noqa: A002
        """Record that every member of the group is of that version and proven healthy."""

        async def command() -> None:
            why = f"all instances of {group} are healthy with version {hash[:8]}"
            await self.change(changes.prove(group, hash), what=PROVEN, who=SELF, why=why)

        self._defer(f"record {hash} of {group} as proven", command)

    async def destroyed(self, group: GroupID) -> None:
        """Remove a group from the declaration: all its instances have terminated."""

        async def command() -> None:
            why = "all its instances are destroyed"
            await self.change(changes.destroyed(group), what=DESTROYED, who=SELF, why=why)

        self._defer(f"forget {group}", command)

    async def evicted(self, group: GroupID, done: Mapping[InstanceID, Eviction]) -> None:
        """Remove commands to destroy instances from the declaration: the instances have terminated."""

        async def command() -> None:
            why = f"terminated: {', '.join(sorted(done))}"
            await self.change(changes.evicted(group, done), what=DESTROYED, who=SELF, why=why)

        self._defer(f"forget {group} {sorted(done)}", command)

    async def recovered(self, group: GroupID, instances: Mapping[InstanceID, str]) -> None:
        """Remove the override of MaxUnhealthy for instances: they are healthy again, or have terminated."""

        async def command() -> None:
            why = f"healthy again, or terminated: {', '.join(sorted(instances))}"
            await self.change(changes.recovered(group, instances), what="recovered", who=SELF, why=why)

        self._defer(f"forget the override for {group} {sorted(instances)}", command)

    async def transfer_leadership(self, why: str) -> bool:
        if not isinstance(self._leadership, Resigns):
            return False

        async def command() -> None:
            await self.resign(SELF, why)

        self._defer("transfer leadership", command)
        return True

    def _defer(self, name: str, command: Callable[[], Awaitable[None]]) -> None:
        """Queue a command for the replica's own task, because it may stop the controller that requested it."""
        if name not in self._deferred_names:
            self._deferred_names.add(name)
            self._deferred.put_nowait((name, command))

    async def _run_deferred(self) -> None:
        while True:
            name, command = await self._deferred.get()
            try:
                if self.term is not None:  # else the new leader decides by itself
                    await self.term.ledger.prove()
                    await command()
            except (errors.InfraKitError, TimeoutError) as error:
                self._emit(Kind.ERROR, f"could not {name}: {error}")
            finally:
                self._deferred_names.discard(name)

    def _emit(self, kind: Kind, message: str) -> None:
        self._emit_event(Event(type=kind, message=message))
