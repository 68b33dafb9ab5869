"""One term of leadership: the controllers of every declared group, from taking the epoch to losing it.

Order: the epoch is taken (which proves the store), the declaration is loaded, then each group observes before it acts.
When the term ends, for whatever reason, everything under way is cancelled before `run` returns.
"""

import asyncio
import random
from collections.abc import Callable

import msgspec

from infrakit.group.account import Account
from infrakit.group.controller import Controller
from infrakit.group.ledger import Superior
from infrakit.group.plan import Want
from infrakit.group.view import GroupView, Member
from infrakit.manager.intents import StoredLedger
from infrakit.manager.record import Record
from infrakit.manager.validate import Plugins
from infrakit.spi import errors
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event, Kind
from infrakit.spi.flavor import Quorum
from infrakit.spi.group import Group
from infrakit.spi.values import TAG_GROUP, GroupID

LOOK_DEADLINE_S = 30.0


class Term:
    """Controllers by group; `adopt` brings them in line with a record."""

    def __init__(
        self,
        *,
        ledger: StoredLedger,
        plugins: Plugins,
        superior: Superior,
        clock: Clock,
        random: random.Random,
        emit: Callable[[Event], object],
        poll_s: float,
        is_self: Callable[[Member], bool],
    ) -> None:
        self.ledger = ledger
        self.controllers: dict[GroupID, Controller] = {}
        self._plugins = plugins
        self._superior = superior
        self._clock = clock
        self._random = random
        self._emit = emit
        self._poll_s = poll_s
        self._is_self = is_self
        self._accounts: dict[str, Account] = {}
        self._running: dict[GroupID, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._turn = asyncio.Lock()

    async def run(self, first: Record, begun: asyncio.Event) -> None:
        """Lead until cancelled, or until the epoch is lost: then `NotLeader` comes in an exception group."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self.adopt(first)
                begun.set()
                await asyncio.get_running_loop().create_future()
        finally:
            self.ledger.resign("its term has ended")
            self._tasks = None
            for account in self._accounts.values():
                await account.close()

    async def adopt(self, record: Record) -> None:
        """Start, inform and end controllers so that they match the record. When it returns, nothing older is begun."""
        async with self._turn:
            for name in [n for n in self.controllers if n not in record.groups]:
                await self._end(name)
            for name, group in record.groups.items():
                try:
                    await self._bring_up(name, group, record)
                except errors.NotFound as missing:  # a plugin that was here when it was declared
                    self._emit(Event(type=Kind.ERROR, group=name, message=str(missing)))

    async def _bring_up(self, name: GroupID, group: Group, record: Record) -> None:
        want, previous = self.want(group, record), record.previous.get(name)
        running = self.controllers.get(name)
        if running is not None:
            same = running.want.group.properties
            if (same.flavor.plugin, same.instance.plugin) == (
                group.properties.flavor.plugin,
                group.properties.instance.plugin,
            ):
                if (running.want, running.previous) != (want, previous):
                    running.declare(want, previous)
                return
            await self._end(name)
        if self._tasks is None:
            raise errors.NotLeader("the term has ended")
        controller = Controller(
            want=want,
            previous=previous,
            account=self._account(group.properties.instance.plugin),
            flavor=self._plugins.flavor(group.properties.flavor.plugin),
            ledger=self.ledger,
            superior=self._superior,
            clock=self._clock,
            random=self._random,
            emit=self._emit,
            poll_s=self._poll_s,
            is_self=self._is_self,
        )
        self.controllers[name] = controller
        self._running[name] = self._tasks.create_task(controller.run())
        self._emit(Event(type=Kind.STARTED, group=name, message=f"managing {name}: {want.size} declared"))

    async def _end(self, name: GroupID) -> None:
        """End a controller and wait for it, so that a group never has two."""
        del self.controllers[name]
        running = self._running.pop(name)
        running.cancel()
        await asyncio.wait({running})
        self._emit(Event(type=Kind.STOPPED, group=name, message=f"{name} is not managed any more"))

    def _account(self, plugin: str) -> Account:
        if plugin not in self._accounts:
            account = Account(plugin, self._plugins.instance(plugin), random=self._random)
            self._accounts[plugin] = account
            if self._tasks is not None:
                self._tasks.create_task(account.watch())
        return self._accounts[plugin]

    def want(self, group: Group, record: Record) -> Want:
        """What a plan needs to know of a declared group."""
        flavor = self._plugins.flavor(group.properties.flavor.plugin)
        properties: msgspec.Raw = group.properties.flavor.properties
        account = self._account(group.properties.instance.plugin)
        previous = record.previous.get(group.name)
        return Want(
            group=group,
            previous_hash=previous.hash if previous is not None else "",
            orders=record.orders_of(group.name),
            quorum=isinstance(flavor, Quorum) and flavor.is_quorum(properties=properties),
            tokens=account.capabilities.tokens,
        )

    async def look(self, group: Group) -> GroupView:
        """A view of what exists of a group that is not managed, for a forecast."""
        plugin = self._plugins.instance(group.properties.instance.plugin)
        now = asyncio.get_running_loop().time()
        view = GroupView(group=group.name, pets=group.is_pets, lag_s=0.0, can_inspect=False, now=now)
        async with asyncio.timeout(LOOK_DEADLINE_S):
            listing = await plugin.describe_instances(tags={TAG_GROUP: group.name})
        view.listed(listing, begun_at=now, now=now, wall=self._clock.now())
        return view
