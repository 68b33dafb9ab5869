"""One leadership term: the controllers of every declared group, from acquiring the epoch to losing it.

The epoch is acquired first (which proves the store), then the declaration is loaded, and each group observes before it
acts. When the term ends, for whatever reason, all calls in flight are cancelled before `run` returns.
"""

import asyncio
import contextlib
import functools
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from infrakit.group import elsewhere
from infrakit.group import listing as listings
from infrakit.group.account import Account
from infrakit.group.controller import Controller
from infrakit.group.ledger import ManagerCallbacks
from infrakit.group.orders import Orders
from infrakit.group.plan import DesiredState
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.group.versions import MemberVersions
from infrakit.manager.declaration import validate
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.declaration.validate import Plugins
from infrakit.manager.lead.census import Censuses
from infrakit.manager.lead.ledger import EpochLedger
from infrakit.manager.lead.plugins import PluginCache, ResolvedPlugins
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event, Kind
from infrakit.spi.group import Group
from infrakit.spi.instance import Identified
from infrakit.spi.manager import Halt
from infrakit.spi.values import TAG_GROUP, Description, GroupID

LIST_DEADLINE_S = 30.0
RESOLVE_WAIT_S = 2.0  # maximum time that a change waits for plugins that are used for the first time
RESOLVE_RETRY_S = 2.0
EXPIRY_S = 3600.0  # for which the ledger keeps calls in flight of a group that is not declared any more


_UNDECLARED = Halt(who="infrakit", when="", why="the group is no longer declared")


class Term:
    """The controllers of one leadership term, by group; `adopt` makes them match a record."""

    def __init__(
        self,
        *,
        ledger: EpochLedger,
        censuses: Censuses,
        plugins: Plugins,
        callbacks: ManagerCallbacks,
        clock: Clock,
        random: random.Random,
        emit: Callable[[Event], object],
        poll_s: float,
        is_self: Callable[[Member], bool],
        only_destroys: Halt | None = None,
    ) -> None:
        self.ledger = ledger
        self._censuses = censuses
        self.controllers: dict[GroupID, Controller] = {}
        self.unmanaged: dict[GroupID, str] = {}  # declared groups that have no controller yet, and why
        self._plugins = PluginCache(plugins, random=random)
        self._callbacks = callbacks
        self._clock = clock
        self._random = random
        self._emit = emit
        self._poll_s = poll_s
        self._is_self = is_self
        self._only_destroys = only_destroys  # the halt of every group that is not to be destroyed
        self._record = DeclarationRecord()
        self._checked: tuple[DeclarationRecord, dict[GroupID, str]] = (self._record, {})  # its conflicts
        self._running: dict[GroupID, asyncio.Task[None]] = {}
        self._resolving: dict[GroupID, asyncio.Task[None]] = {}
        self._watched: set[str] = set()
        self._accepted: Mapping[str, str] = {}  # identities of accounts, by plugin
        self._undeclared_since: dict[GroupID, float] = {}  # loop time
        self._tasks: asyncio.TaskGroup | None = None
        self._lock = asyncio.Lock()

    async def run(self, first: DeclarationRecord, started: asyncio.Event) -> None:
        """Run until cancelled, or until the epoch is lost: then raise `NotLeader` in an exception group.

        Sets `started` once the controllers match the `first` record.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for guard in (self.ledger.guard_leadership, self.ledger.poll_epoch, self.ledger.watch_epoch):
                    tasks.create_task(guard())
                await self.adopt(first)
                started.set()
                await self._retry_unresolved()
        finally:
            self.ledger.resign("its term has ended")
            self._tasks = None
            await self._plugins.close()

    def abort(self, why: errors.InfraKitError) -> None:
        """End the term immediately, as if the epoch were lost."""
        self.ledger.resign(str(why))
        with contextlib.suppress(errors.NotLeader):
            self._start(_fail(why))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task of this term. Raises `NotLeader` when the term has ended, or is ending."""
        try:
            if self._tasks is not None:
                return self._tasks.create_task(work)
        except RuntimeError:  # the task group is shutting down, and accepts no new tasks
            pass
        work.close()
        raise errors.NotLeader("the term has ended")

    def bind(self, record: DeclarationRecord) -> None:
        """Bind every running controller to the record at once: no call that it does not want begins after this.

        `adopt` completes it, which may take long: plugins are resolved, and controllers are stopped. Until then, a
        controller whose new plugins are not resolved follows the new commands only, and that of a group that is no
        longer declared makes no call.
        """
        self._record = record
        self._own_instances()
        for name, controller in self.controllers.items():
            group = record.groups.get(name)
            resolved = self._plugins.resolved(group) if group is not None else None
            if group is not None and resolved is not None and resolved.account is controller.account:
                want = self._want(group, record, resolved)
            elif group is not None:
                want = msgspec.structs.replace(controller.want, orders=self._orders(name, record))
            else:
                orders = msgspec.structs.replace(controller.want.orders, halt=_UNDECLARED)
                want = msgspec.structs.replace(controller.want, orders=orders)
            if controller.want != want:
                controller.declare(want)

    async def adopt(self, record: DeclarationRecord) -> None:
        """Start, update and stop controllers to match the record. Once it returns, no action of an older record starts.

        A group whose plugins do not answer within `RESOLVE_WAIT_S` is managed once they do. Raises `NotLeader` if
        the term ends before that.
        """
        self._record = record
        await self._reconcile(self._plugins.is_resolved)
        if unresolved := self._resolve():
            await asyncio.wait(unresolved, timeout=RESOLVE_WAIT_S)
            await self._reconcile(lambda group: group.name in self.controllers or self._plugins.is_resolved(group))

    async def _reconcile(self, concerned: Callable[[Group], bool]) -> None:
        async with self._lock:
            record = self._record
            self._own_instances()
            await self._stop_moved(record)
            for name in [n for n in self.controllers if n not in record.groups]:
                await self._stop_controller(name)
                await self._clear(name)
            for name in [n for n in self.unmanaged if n not in record.groups]:
                del self.unmanaged[name]
            await self._expire_undeclared(record)
            for name, group in record.groups.items():
                resolved = self._plugins.resolved(group) if concerned(group) else None
                if resolved is not None:
                    await self._start_or_update(name, group, record, resolved)

    @property
    def clusters(self) -> frozenset[str]:
        """The clusters, as tokens name them, whose instances belong to this one."""
        return self.ledger.clusters.union(self._record.adopted)

    def _own_instances(self) -> None:
        """Set whose instances belong to this cluster, in every account; an adoption changes that."""
        clusters = self.clusters
        for account in self._plugins.accounts.values():
            account.own(clusters)
            account.verify = functools.partial(self._verify, account)

    async def _verify(self, account: Account) -> None:
        """Raise `Refused` if the plugin shows another account than before. The first one is recorded."""
        if not isinstance(account.instance, Identified):
            return
        found = await account.instance.identity()
        known = self._identity(account.name, self._record.accounts)
        if found == known:
            return
        if not known:
            await self.ledger.identify(account.name, found)
            return
        command = f"infrakit adopt {found or 'IDENTITY'} --account {account.name} -m WHY"
        raise errors.Refused(
            f"{account.name} shows another account than before: its identity is {found or 'empty'}, not {known}",
            remedy=f"restore its credentials or address; if the change is intended: {command}",
        )

    async def refuse_other_account(self, plugin: str, identity: str) -> str:
        """Raise `Refused` if an instance plugin shows another account than `identity`, or `NotFound` without a plugin.

        Returns why that could not be determined; empty if the plugin shows this account.
        """
        try:
            found = await self._plugins.identity(plugin)
        except errors.NotFound:
            if any(group.properties.instance.plugin == plugin for group in self._record.groups.values()):
                return f"{plugin} is not running"
            raise
        except (errors.InfraKitError, TimeoutError) as error:
            return f"{plugin} does not answer" if isinstance(error, TimeoutError) else str(error)
        if found == identity:
            return ""
        if found is None:
            what, remedy = f"{plugin} distinguishes no accounts", "its groups never wait for an adoption"
        elif found in ("", self._identity(plugin, self._record.accounts)):
            what = f"the identity of the account of {plugin} is {found or 'empty'}, not {identity}"
            remedy = f"first change the credentials or the address of {plugin}"
        else:
            what = f"the identity of the account of {plugin} is {found}, not {identity}"
            remedy = f"if that account is intended: infrakit adopt {found} --account {plugin} -m WHY"
        raise errors.Refused(what, remedy=remedy)

    def _identity(self, plugin: str, accepted: Mapping[str, str]) -> str:
        """Return the identity of the account that a plugin has to show; empty if it has shown none yet."""
        return accepted.get(plugin) or self.ledger.identity(plugin)

    async def _stop_moved(self, record: DeclarationRecord) -> None:
        """Stop the controllers whose plugin has to show another account now: what they know is of the old one."""
        before, self._accepted = self._accepted, record.accounts
        for name, controller in list(self.controllers.items()):
            plugin = controller.account.name
            if self._identity(plugin, before) not in ("", self._identity(plugin, record.accounts)):
                await self._stop_controller(name, f"another account of {plugin} is adopted")

    async def _expire_undeclared(self, record: DeclarationRecord) -> None:
        """Clear what is recorded of groups that were freed, once they have been undeclared for long.

        Until then it stays: a group that is committed again must find the calls that were in flight when it was freed.
        """
        now = asyncio.get_running_loop().time()
        undeclared = self.ledger.groups - record.groups.keys()
        self._undeclared_since = {name: self._undeclared_since.get(name, now) for name in undeclared}
        for name, since in self._undeclared_since.items():
            if now - since > EXPIRY_S:
                try:
                    await self.ledger.forget(name)
                except (errors.InfraKitError, TimeoutError) as error:
                    self._emit(Event(type=Kind.ERROR, group=name, message=f"could not clear its intents: {error}"))

    async def _clear(self, name: GroupID) -> None:
        """Clear the census of a group that is no longer declared: its instances may be changed by others then."""
        try:
            await self._censuses.clear(name)
        except (errors.InfraKitError, TimeoutError) as error:
            self._emit(Event(type=Kind.ERROR, group=name, message=f"could not clear its census: {error}"))

    async def _start_or_update(
        self, name: GroupID, group: Group, record: DeclarationRecord, resolved: ResolvedPlugins
    ) -> None:
        want = self._want(group, record, resolved)
        running = self.controllers.get(name)
        if running is not None:
            before = running.want.group.properties
            if (before.flavor.plugin, before.instance.plugin) == (
                group.properties.flavor.plugin,
                group.properties.instance.plugin,
            ):
                if running.want != want:
                    running.declare(want)
                return
            await self._stop_controller(name, "it has another plugin")
        if resolved.account.name not in self._watched:
            self._start(resolved.account.watch())
            self._watched.add(resolved.account.name)
        controller = Controller(
            want=want,
            account=resolved.account,
            flavor=resolved.flavor,
            ledger=self.ledger,
            censuses=self._censuses,
            identity=lambda: self._identity(resolved.account.name, self._record.accounts),
            elsewhere=functools.partial(self._creations_elsewhere, name, resolved.account),
            callbacks=self._callbacks,
            clock=self._clock,
            random=self._random,
            emit=self._emit,
            poll_s=self._poll_s,
            is_self=self._is_self,
        )
        self._running[name] = self._start(controller.run())
        self.controllers[name] = controller
        self._emit(Event(type=Kind.STARTED, group=name, message=f"managing {name}: {want.size} declared"))

    def _creations_elsewhere(self, group: GroupID, account: Account, listed_from: float) -> Sequence[Description]:
        """Describe the instances that groups other than this one may be creating; see `group.elsewhere`.

        Those of a group that is not declared any more are settled by no controller, so they expire. As long as its
        controller is being stopped, that time has not begun.
        """
        now, record, others = asyncio.get_running_loop().time(), self._record, []
        for name in sorted(self.ledger.groups - {group}):
            declared, before = record.groups.get(name), record.previous.get(name)
            other = elsewhere.Other(
                name=name,
                creating=self.ledger.creating(name),
                versions=() if declared is None else (declared,) if before is None else (declared, before),
                undeclared_since=self._undeclared_since.get(name, now) if declared is None else math.inf,
            )
            others.append(other)
        lag_s = account.capabilities.listing_lag_s
        return elsewhere.creations(others, plugin=account.name, listed_from=listed_from, lag_s=lag_s)

    async def _stop_controller(self, name: GroupID, restarts: str = "") -> None:
        """Stop a controller and wait for it, so that a group never has two. `restarts`: why another one follows."""
        del self.controllers[name]
        running = self._running.pop(name)
        running.cancel()
        await asyncio.wait({running})
        what = f"the controller of {name} restarts: {restarts}" if restarts else f"{name} is no longer managed"
        self._emit(Event(type=Kind.STOPPED, group=name, message=what))

    # -- plugins ---------------------------------------------------------------------------------------------------

    def _resolve(self) -> set[asyncio.Task[None]]:
        """Start to resolve the plugins of groups that are not resolved, one task per group."""
        for name, group in self._record.groups.items():
            if name not in self._resolving and not self._plugins.is_resolved(group):
                self._resolving[name] = self._start(self._resolve_one(name, group))
        return set(self._resolving.values())

    async def _resolve_one(self, name: GroupID, group: Group) -> None:
        try:
            await self._plugins.resolve(group)
            self.unmanaged.pop(name, None)
        except Exception as error:
            problem = "its plugins do not answer" if isinstance(error, TimeoutError) else str(error)
            if self.unmanaged.get(name) != problem:
                self.unmanaged[name] = problem
                self._emit(Event(type=Kind.ERROR, group=name, message=problem))
        finally:
            del self._resolving[name]

    async def _retry_unresolved(self) -> None:
        """Retry unresolved plugins for as long as the term lasts."""
        while True:
            await asyncio.sleep(RESOLVE_RETRY_S)
            restarted = await self._restart_outdated()
            if self._resolve() or restarted:
                await self.adopt(self._record)

    async def _restart_outdated(self) -> bool:
        """Stop controllers whose plugin has changed its capabilities, to be restarted. True if there were any."""
        async with self._lock:
            outdated = [account for account in self._plugins.accounts.values() if account.outdated]
            for account in outdated:
                for name in [n for n, controller in self.controllers.items() if controller.account is account]:
                    await self._stop_controller(name, f"{account.name} has other capabilities")
                account.outdated = False
        return bool(outdated)

    async def want(self, group: Group, record: DeclarationRecord) -> DesiredState:
        """The desired state of a declared group, as input of a plan. Raises what its plugins raise."""
        return self._want(group, record, await self._plugins.resolve(group))

    def _want(self, group: Group, record: DeclarationRecord, resolved: ResolvedPlugins) -> DesiredState:
        return DesiredState(
            group=group,
            previous=record.previous.get(group.name),
            proven=record.proven.get(group.name),
            versions=resolved.versions(group),
            earlier=self._earlier(group, record, resolved),
            orders=self._orders(group.name, record),
            conflict=self._conflicts(record).get(group.name, ""),
            quorum=resolved.quorum,
            tokens=resolved.account.capabilities.tokens,
        )

    def _earlier(self, group: Group, record: DeclarationRecord, resolved: ResolvedPlugins) -> dict[str, MemberVersions]:
        earlier = (record.previous.get(group.name), record.proven.get(group.name))
        return {
            each.hash: resolved.versions(group.made_from(each))
            for each in earlier
            if each is not None and each.hash != group.hash
        }

    def _conflicts(self, record: DeclarationRecord) -> dict[GroupID, str]:
        if self._checked[0] is not record:
            self._checked = (record, validate.conflicts(record.groups.values()))
        return self._checked[1]

    def _orders(self, group: GroupID, record: DeclarationRecord) -> Orders:
        orders = record.orders_of(group)
        if self._only_destroys is None or orders.halt is not None or orders.destroying is not None:
            return orders
        return msgspec.structs.replace(orders, halt=self._only_destroys)

    async def list_unmanaged(self, group: Group) -> tuple[GroupView, Sequence[Description]]:
        """A view of the existing instances of an unmanaged group, for a forecast, and those of other clusters."""
        resolved = await self._plugins.resolve(group)
        now = asyncio.get_running_loop().time()
        view = GroupView(group=group.name, pets=group.is_pets, lag_s=0.0, can_inspect=False, now=now)
        async with asyncio.timeout(LIST_DEADLINE_S):
            listing = await resolved.account.instance.describe_instances(tags={TAG_GROUP: group.name})
        listing = listings.of_group(listing, group.name)
        others = listings.foreign(listing, self.clusters)
        view.listed(listings.without(listing, others), begun_at=now, now=now, wall=self._clock.now())
        return view, others


async def _fail(why: errors.InfraKitError) -> None:
    raise why
