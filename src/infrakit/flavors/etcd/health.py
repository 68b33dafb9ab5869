"""Health: polls every member of a group at the same time, and derives each verdict from all of the answers.

A member is unhealthy only for a fault of its own. One that has no leader while the others have one is unhealthy. If no
member has a leader, the quorum is lost, and replacing members would not restore it: the members that still answer are
unknown.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import msgspec

from infrakit.clients.etcd import Etcd, Member, MemberStatus
from infrakit.spi import errors
from infrakit.spi.values import Health, HealthReport

T = TypeVar("T")


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """The result of polling the health and status API of one member."""

    url: str
    healthy: bool = False  # the member reports that it has a leader that answers, and no alarm
    listens: bool = True
    status: MemberStatus | None = None
    error: str = ""

    @property
    def leads(self) -> bool:
        return self.status is not None and self.status.leader == self.status.member != 0


async def poll(client: Etcd) -> Poll:
    """Poll one member. Raises nothing but cancellation.

    Health needs a quorum, and without one etcd 3.5 may not answer within the deadline where 3.4 answers at once. The
    status is local and distinguishes a member without a leader from one that hangs, so both are requested concurrently.
    """
    url = client.endpoints[0]
    async with asyncio.TaskGroup() as tasks:
        health_task = tasks.create_task(_result_or_error(client.health()))
        status_task = tasks.create_task(_result_or_error(client.status()))
    health, status = health_task.result(), status_task.result()
    if isinstance(health, errors.Unreachable):
        return Poll(url=url, listens=False, error=health.what)
    if isinstance(status, errors.InfraKitError):
        return Poll(url=url, error=status.what)
    if isinstance(health, errors.InfraKitError):
        return Poll(url=url, status=status, error=health.what)
    return Poll(url=url, healthy=health, status=status)


async def _result_or_error(request: Awaitable[T]) -> T | errors.InfraKitError:
    """Return the result of a request, or the error that it raises."""
    try:
        return await request
    except errors.InfraKitError as error:
        return error


async def poll_all(clients: Mapping[str, Etcd]) -> dict[str, Poll]:
    """Poll all members concurrently; the results have the keys of `clients`."""
    async with asyncio.TaskGroup() as tasks:
        started = {name: tasks.create_task(poll(client)) for name, client in clients.items()}
    return {name: task.result() for name, task in started.items()}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round of polls, by logical ID, and the member list as a member with a leader returns it."""

    polls: Mapping[str, Poll]
    members: tuple[Member, ...] = ()  # empty: no member that has a leader returned the list
    leader: MemberStatus | None = None
    max_lag: int

    def verdict(self, name: str) -> HealthReport:
        """Return the verdict on one of the polled members."""
        own = self.polls[name]
        others = sum(each.healthy for other, each in self.polls.items() if other != name)
        if not own.listens:
            return _unhealthy(
                f"etcd does not run at {own.url} ({own.error}); the boot script may be waiting, see its log"
            )
        if own.status is None:
            if not others:
                return _unknown(f"{own.url}: {own.error}; no other member has a leader either")
            return _unhealthy(f"{own.url}: {own.error}, while {others} of the others have a leader")
        return self._report(own, own.status, others)

    def _report(self, own: Poll, status: MemberStatus, others: int) -> HealthReport:
        cluster_fault = self._cluster_fault(own, status, others)
        if cluster_fault:
            return _unknown(cluster_fault)
        fault = self._member_fault(own, status, others)
        if fault:
            return _unhealthy(f"{own.url} {fault}")
        return HealthReport(health=Health.HEALTHY, note=self._note(own, status))

    def _cluster_fault(self, own: Poll, status: MemberStatus, others: int) -> str:
        """Describe a fault that replacing this member would not fix; empty if there is none."""
        clusters = {each.status.cluster for each in self.polls.values() if each.status is not None}
        if len(clusters) > 1:
            return f"the members of this group form {len(clusters)} clusters; this one belongs to {status.cluster:x}"
        alarms = [each for each in status.errors if "alarm" in each.lower()]
        if alarms:
            return f"{', '.join(alarms)}; replacing the member would not fix it"
        if not own.healthy and not others:
            answering = sum(each.status is not None for each in self.polls.values())
            return f"the cluster has no leader: {answering} of {len(self.polls)} members answer"
        return ""

    def _member_fault(self, own: Poll, status: MemberStatus, others: int) -> str:
        """Describe a fault of this member alone; empty if there is none."""
        mine = next((each for each in self.members if each.id == status.member), None)
        if self.members and mine is None:
            return "is not in the member list"
        if mine is not None and mine.is_learner:
            return "is a learner: it has no vote"
        if own.error:
            return f"does not answer its health check ({own.error}), while {others} of the others have a leader"
        if not own.healthy:
            return f"has no leader, while {others} of the others have one"
        behind = self.leader.raft_index - status.applied_index if self.leader is not None else 0
        return f"is {behind} entries behind the leader, and MaxLag is {self.max_lag}" if behind > self.max_lag else ""

    def _note(self, own: Poll, status: MemberStatus) -> str:
        """Return the note on a healthy member. It is stored, so it has no figures that change with every poll."""
        names = {each.id: each.name for each in self.members}
        what = "leads" if own.leads else f"follows {names.get(status.leader) or f'{status.leader:x}'}"
        known = {each.status.member for each in self.polls.values() if each.status is not None}
        silent = [each.name or each.peer_urls[0] for each in self.members if each.id not in known]
        absent = f"; {', '.join(silent)} of the {len(self.members)} members listed did not answer" if silent else ""
        return f"{what}{absent}"


def _unhealthy(note: str) -> HealthReport:
    return HealthReport(health=Health.UNHEALTHY, note=note)


def _unknown(note: str) -> HealthReport:
    return HealthReport(health=Health.UNKNOWN, note=note)
