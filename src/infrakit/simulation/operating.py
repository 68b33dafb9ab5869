"""The simulated operator: gives orders to any replica until one acknowledges them, as people and scripts do."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from infrakit.simulation.hosts import Host, Process
from infrakit.simulation.laws import HEARSAY_S, Laws
from infrakit.simulation.scenario import GroupPlan
from infrakit.spi import errors
from infrakit.spi.manager import Committed, Manager, Status
from infrakit.spi.values import GroupID, InstanceID

WHO = "operator"
PATIENCE_S = 20.0  # with one replica
ORDER_S_MAX = 1200.0  # after which an order should have been acknowledged somewhere
AGAIN_S = 1.0

Order = Callable[[Manager, str], Awaitable[Committed]]
ASK_ANOTHER = (
    errors.Unreachable,
    errors.OutcomeUnknown,
    errors.NotLeader,
    errors.Conflict,
    errors.InvalidSpec,  # also where a plugin could not be asked
    TimeoutError,
)


class Acknowledged(NamedTuple):
    """An order is durable, as this process says."""

    by: Process
    led: bool  # it held the newest epoch


class Operating:
    """Orders, each with a reason of its own, so that it is found again in the history."""

    def __init__(self, hosts: Sequence[Host], laws: Laws, rng: random.Random) -> None:
        self._hosts = hosts
        self._laws = laws
        self._rng = rng
        self._given = 0

    async def order(self, order: Order) -> Acknowledged | None:
        """Give it until it is acknowledged; None: it was refused. Raises `AssertionError` if nobody ever answers."""
        self._given += 1
        why, until = f"order {self._given}", self._laws.now + ORDER_S_MAX
        leader_wanted = False
        while self._laws.now < until:
            process = self._somebody(leader_wanted=leader_wanted)
            if process is None:
                await asyncio.sleep(AGAIN_S)
                continue
            try:
                async with asyncio.timeout(PATIENCE_S):
                    committed = await order(process.operator, why)
            except ASK_ANOTHER as error:
                leader_wanted = leader_wanted or isinstance(error, errors.NotLeader)
                await asyncio.sleep(AGAIN_S)
            except (errors.Refused, errors.NotFound):
                return None
            else:
                self._laws.told(committed.version, why, changed=bool(committed.changes))
                return Acknowledged(process, led=process.epoch == self._laws.epoch)
        raise AssertionError(f"{why} was never acknowledged")

    def _somebody(self, *, leader_wanted: bool) -> Process | None:
        running = [h.process for h in self._hosts if h.process is not None]
        leading = [p for p in running if p.replica.active.is_set()]
        return self._rng.choice(leading if leader_wanted and leading else running) if running else None

    async def status(self) -> Status | None:
        """As a leader tells it, if there is one that answers."""
        for process in [h.process for h in self._hosts if h.process is not None]:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    status = await process.operator.status()
            except ASK_ANOTHER:
                continue
            if status.leader and process.epoch == self._laws.epoch:
                return status
        return None

    # -- orders ----------------------------------------------------------------------------------------------------

    async def declare(self, what: str, group: GroupPlan, rng: random.Random) -> None:
        """Change what is declared of a group."""
        if what == "scale":
            group.size = rng.choice([0, 1, 2, 4, 8, 16])
        elif what == "members" and group.pets:
            if len(group.ids) > 1 and rng.random() < 0.5:
                group.ids = group.ids[1:]
            else:
                group.ids = list(dict.fromkeys([*group.ids, f"{group.net}.{rng.randrange(250)}"]))
        else:
            group.version += 1
            group.bad = what == "bad version"
        await self.commit(group)

    async def commit(self, group: GroupPlan) -> None:
        text = group.document()
        await self.order(lambda o, why: o.commit(text=text, source="doc", who=WHO, why=why))

    async def halt(self, target: GroupID | None, for_s: float) -> None:
        """Everything or one group, for a while. Whoever led when it was acknowledged knows of it at once."""
        done = await self.order(lambda o, why: o.halt(group=target, who=WHO, why=why))
        if done is not None:
            self._laws.halted[target] = self._laws.now + (0.0 if done.led else HEARSAY_S)
            await asyncio.sleep(for_s)
            await self.unhalt(target)

    async def unhalt(self, target: GroupID | None) -> None:
        self._laws.halted.pop(target, None)
        await self.order(lambda o, why: o.unhalt(group=target, who=WHO, why=why))

    async def pause(self, group: GroupID, for_s: float) -> None:
        await self.order(lambda o, why: o.pause(group=group, who=WHO, why=why))
        await asyncio.sleep(for_s)
        await self.order(lambda o, why: o.resume(group=group, who=WHO, why=why))

    async def end_roll(self, group: GroupID, *, rollback: bool) -> None:
        if rollback:
            await self.order(lambda o, why: o.rollback(group=group, who=WHO, why=why))
        else:
            await self.order(lambda o, why: o.abort(group=group, who=WHO, why=why))

    async def evict(self, group: GroupPlan, victim: InstanceID, *, replace: bool) -> None:
        done = await self.order(lambda o, why: o.destroy_instance(instance=victim, replace=replace, who=WHO, why=why))
        if done is not None and not replace:
            group.size = max(0, group.size - 1)

    async def go(self, group: GroupID) -> None:
        """Go on, whatever looks sick."""
        await self.order(lambda o, why: o.resume(group=group, despite_unhealthy=True, who=WHO, why=why))
