"""Health: one look at every member of a group at once, and what all looks together say about each.

A member is blamed for what is its own fault only. One that has no leader while the others have one is unhealthy; if
nobody has a leader, the quorum is gone, which no new machine without data can cure: then those who answer are unknown.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import msgspec

from infrakit.clients.etcd import Etcd, Member, MemberStatus
from infrakit.spi import errors
from infrakit.spi.values import Health, HealthReport

T = TypeVar("T")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one member answered."""

    url: str
    healthy: bool = False  # its own word: it has a leader that answers, and no alarm
    listens: bool = True
    status: MemberStatus | None = None
    error: str = ""

    @property
    def leads(self) -> bool:
        return self.status is not None and self.status.leader == self.status.member != 0


async def look(client: Etcd) -> Look:
    """Ask one member. Raises nothing but cancellation.

    Health needs a quorum, and without one etcd 3.5 may not answer within the deadline where 3.4 answers at once. The
    status is local: it tells a member without a leader from one that hangs, so both are asked at the same time.
    """
    url = client.endpoints[0]
    async with asyncio.TaskGroup() as tasks:
        of_health, of_status = tasks.create_task(_answer(client.health())), tasks.create_task(_answer(client.status()))
    health, status = of_health.result(), of_status.result()
    if isinstance(health, errors.Unreachable):
        return Look(url=url, listens=False, error=health.what)
    if isinstance(status, errors.InfraKitError):
        return Look(url=url, error=status.what)
    if isinstance(health, errors.InfraKitError):
        return Look(url=url, status=status, error=health.what)
    return Look(url=url, healthy=health, status=status)


async def _answer(question: Awaitable[T]) -> T | errors.InfraKitError:
    """What is answered, or why nothing is."""
    try:
        return await question
    except errors.InfraKitError as error:
        return error


async def look_at_all(clients: Mapping[str, Etcd]) -> dict[str, Look]:
    """Ask all at once, by name."""
    async with asyncio.TaskGroup() as tasks:
        asked = {name: tasks.create_task(look(client)) for name, client in clients.items()}
    return {name: task.result() for name, task in asked.items()}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """All looks of one moment, by logical ID, and the list of members as one with a leader knows it."""

    looks: Mapping[str, Look]
    members: tuple[Member, ...] = ()  # empty: nobody who has a leader told it
    leader: MemberStatus | None = None
    max_lag: int

    def verdict(self, name: str) -> HealthReport:
        """About one of those that were looked at."""
        own = self.looks[name]
        others = sum(each.healthy for other, each in self.looks.items() if other != name)
        if not own.listens:
            return _unhealthy(
                f"etcd does not run at {own.url} ({own.error}); the boot script may be waiting, see its log"
            )
        if own.status is None:
            if not others:
                return _unknown(f"{own.url}: {own.error}; nobody else has a leader either")
            return _unhealthy(f"{own.url}: {own.error}, while {others} of the others have a leader")
        return self._of(own, own.status, others)

    def _of(self, own: Look, status: MemberStatus, others: int) -> HealthReport:
        doubt = self._doubt(own, status, others)
        if doubt:
            return _unknown(doubt)
        fault = self._fault(own, status, others)
        if fault:
            return _unhealthy(f"{own.url} {fault}")
        return HealthReport(health=Health.HEALTHY, note=self._standing(own, status))

    def _doubt(self, own: Look, status: MemberStatus, others: int) -> str:
        """What a new machine would not cure, or nothing."""
        clusters = {each.status.cluster for each in self.looks.values() if each.status is not None}
        if len(clusters) > 1:
            return f"the members of this group form {len(clusters)} clusters; this one is of {status.cluster:x}"
        alarms = [each for each in status.errors if "alarm" in each.lower()]
        if alarms:
            return f"{', '.join(alarms)}; a new machine would not cure it"
        if not own.healthy and not others:
            answering = sum(each.status is not None for each in self.looks.values())
            return f"the cluster has no leader: {answering} of {len(self.looks)} members answer"
        return ""

    def _fault(self, own: Look, status: MemberStatus, others: int) -> str:
        """What is wrong with this very member, or nothing."""
        mine = next((each for each in self.members if each.id == status.member), None)
        if self.members and mine is None:
            return "is not in the list of members"
        if mine is not None and mine.is_learner:
            return "is a learner: it has no vote"
        if own.error:
            return f"does not answer for its health ({own.error}), while {others} of the others have a leader"
        if not own.healthy:
            return f"has no leader, while {others} of the others have one"
        behind = self.leader.raft_index - status.applied_index if self.leader is not None else 0
        return f"is {behind} entries behind the leader, and MaxLag is {self.max_lag}" if behind > self.max_lag else ""

    def _standing(self, own: Look, status: MemberStatus) -> str:
        """Without figures that change all the time: it is kept with the instance."""
        names = {each.id: each.name for each in self.members}
        what = "leads" if own.leads else f"follows {names.get(status.leader) or f'{status.leader:x}'}"
        known = {each.status.member for each in self.looks.values() if each.status is not None}
        silent = [each.name or each.peer_urls[0] for each in self.members if each.id not in known]
        beside = f"; {', '.join(silent)} of the {len(self.members)} members listed did not answer" if silent else ""
        return f"{what}{beside}"


def _unhealthy(note: str) -> HealthReport:
    return HealthReport(health=Health.UNHEALTHY, note=note)


def _unknown(note: str) -> HealthReport:
    return HealthReport(health=Health.UNKNOWN, note=note)
