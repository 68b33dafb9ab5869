"""The simulated operator: sends each command to any replica and retries until one acknowledges it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from infrakit.simulation.hosts import Host, Process
from infrakit.simulation.oracle import Oracle
from infrakit.simulation.scenario import GroupPlan
from infrakit.spi import errors
from infrakit.spi.manager import Committed, Manager, Status
from infrakit.spi.values import GroupID, InstanceID

CONSENT = 100_000  # every commit is intended, whatever it destroys
WHO = "operator"
ATTEMPT_TIMEOUT_S = 20.0  # timeout of one attempt at one replica
COMMAND_S_MAX = 1200.0  # a command must be acknowledged within this time
RETRY_S = 1.0

Command = Callable[[Manager, str], Awaitable[Committed]]
RETRYABLE = (  # errors after which another replica is tried
    errors.Unreachable,
    errors.OutcomeUnknown,
    errors.NotLeader,
    errors.Conflict,
    errors.InvalidSpec,  # also if a plugin is unreachable
    TimeoutError,
)


class Acknowledged(NamedTuple):
    """The process that acknowledged a command as durable."""

    by: Process
    version: int


class OperatorWorkload:
    """Sends operator commands, each with a unique reason by which it is found in the history."""

    def __init__(self, hosts: Sequence[Host], oracle: Oracle, rng: random.Random) -> None:
        self._hosts = hosts
        self._oracle = oracle
        self._rng = rng
        self._submitted = 0

    async def submit(self, command: Command) -> Acknowledged | None:
        """Retry a command until it is acknowledged; None: it was refused.

        Raises `AssertionError` if no replica acknowledges it within `COMMAND_S_MAX`.
        """
        self._submitted += 1
        why, until = f"command {self._submitted}", self._oracle.now + COMMAND_S_MAX
        leader_wanted = False
        while self._oracle.now < until:
            process = self._pick_process(leader_wanted=leader_wanted)
            if process is None:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    committed = await command(process.operator, why)
            except RETRYABLE as error:
                leader_wanted = leader_wanted or isinstance(error, errors.NotLeader)
                await asyncio.sleep(RETRY_S)
            except (errors.Refused, errors.NotFound):
                return None
            else:
                self._oracle.durable.acknowledged(committed.version, why, changed=bool(committed.changes))
                return Acknowledged(process, committed.version)
        raise AssertionError(f"{why} was never acknowledged")

    def _pick_process(self, *, leader_wanted: bool) -> Process | None:
        running = [h.process for h in self._hosts if h.process is not None]
        leading = [p for p in running if p.replica.active.is_set()]
        return self._rng.choice(leading if leader_wanted and leading else running) if running else None

    async def status(self) -> Status | None:
        """Return the status as the current leader reports it; None if no leader responds."""
        for process in [h.process for h in self._hosts if h.process is not None]:
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    status = await process.operator.status()
            except RETRYABLE:
                continue
            if status.leader and process.epoch == self._oracle.actors.epoch:
                return status
        return None

    # -- commands --------------------------------------------------------------------------------------------------

    async def declare(self, what: str, group: GroupPlan, rng: random.Random) -> None:
        """Change the declaration of a group and commit it."""
        if what == "scale":
            group.size = rng.choice([0, 1, 2, 4, 8, 16])
        elif what == "members" and group.pets:
            if len(group.ids) > 1 and rng.random() < 0.5:
                group.ids = group.ids[1:]
            else:
                group.ids = list(dict.fromkeys([*group.ids, f"{group.net}.{rng.randrange(250)}"]))
        elif what == "resize" and group.pets:
            known = [*group.ids, *(f"{group.net}.{rng.randrange(250)}" for _ in range(4))]
            group.resize(rng.sample(known, rng.randint(1, min(6, len(known)))))
        elif what == "policy":
            group.policy += 1
        else:
            group.version += 1
            group.bad = what == "bad version"
        await self.commit(group)

    async def hand_over(self, group: GroupPlan, other: GroupPlan, rng: random.Random) -> None:
        """Take a logical ID from one group, and give it to another one."""
        if group is other or not (group.pets and other.pets) or len(group.ids) < 2:
            return
        moved = rng.choice(group.ids)
        group.ids = [each for each in group.ids if each != moved]
        await self.commit(group)
        other.ids = [*other.ids, moved]
        await self.commit(other)

    async def commit(self, group: GroupPlan) -> None:
        text = group.document()

        def command(manager: Manager, why: str) -> Awaitable[Committed]:
            self._oracle.durable.submitting(why, text)
            return manager.commit(text=text, source="doc", who=WHO, why=why, destroys=CONSENT)

        await self.submit(command)

    async def halt(self, target: GroupID | None, for_s: float) -> None:
        """Halt all groups or one group for a while; once it is acknowledged, it must be obeyed."""
        done = await self.submit(lambda o, why: o.halt(group=target, who=WHO, why=why))
        if done is not None:
            self._oracle.actors.halted(target)
            await asyncio.sleep(for_s)
            await self.unhalt(target)

    async def unhalt(self, target: GroupID | None) -> None:
        self._oracle.actors.unhalting(target)
        await self.submit(lambda o, why: o.unhalt(group=target, who=WHO, why=why))

    async def destroy(self, group: GroupID, *, volumes: bool) -> None:
        await self.submit(lambda o, why: o.destroy(group=group, who=WHO, why=why, volumes=volumes))

    async def free(self, group: GroupID) -> None:
        """Stop managing a group: its instances run without a controller until it is committed again."""
        await self.submit(lambda o, why: o.free(group=group, who=WHO, why=why))

    async def pause(self, group: GroupID, for_s: float) -> None:
        await self.submit(lambda o, why: o.pause(group=group, who=WHO, why=why))
        await asyncio.sleep(for_s)
        await self.resume(group)

    async def resume(self, group: GroupID) -> None:
        self._oracle.resuming(group)
        await self.submit(lambda o, why: o.resume(group=group, who=WHO, why=why))

    async def end_rollout(self, group: GroupID, *, rollback: bool) -> None:
        if rollback:
            await self.submit(lambda o, why: o.rollback(group=group, who=WHO, why=why))
        else:
            await self.submit(lambda o, why: o.abort(group=group, who=WHO, why=why))

    async def evict(self, group: GroupPlan, instance: InstanceID, *, replace: bool) -> None:
        done = await self.submit(
            lambda o, why: o.destroy_instance(instance=instance, replace=replace, who=WHO, why=why)
        )
        if done is not None and not replace:
            group.size = max(0, group.size - 1)

    async def resume_despite_unhealthy(self, group: GroupID) -> None:
        """Resume a group even if more than MaxUnhealthy members are unhealthy."""
        self._oracle.resuming(group)
        await self.submit(lambda o, why: o.resume(group=group, despite_unhealthy=True, who=WHO, why=why))
