"""The operator's interface of one replica among several: requests that need the leader are forwarded to it.

A change of the declaration is a compare-and-swap in the store, so any replica performs it itself. Requests that need
the running controllers (members, explanations, plans, logs) are forwarded to the leader.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from infrakit.manager.api.manager import Operator
from infrakit.manager.api.roster import ReplicaEntry, Roster
from infrakit.manager.lead.replica import Replica
from infrakit.rpc import client
from infrakit.spi import errors, names
from infrakit.spi.instance import LogPart
from infrakit.spi.manager import (
    Committed,
    Explanation,
    LeaderStatus,
    Manager,
    MemberStatus,
    Planned,
    ReplicaStatus,
    Status,
    Version,
)

T = TypeVar("T")

ANSWER_S = 3.0  # timeout of a status request to another replica
AWAY = "away"  # the role of a replica that does not answer
FORWARD_S = 11.0  # timeout of a forwarded request; with the connection, a little less than the command line's


class Relay:
    """Satisfies `spi.manager.Manager`; `inner` answers the requests that need no leader.

    Each method is defined by name: an interface that `__getattr__` provides is absent from Python 3.12 on.
    """

    def __init__(self, inner: Operator, replica: Replica, roster: Roster) -> None:
        self._inner = inner
        self._replica = replica
        self._roster = roster

    async def status(self) -> Status:
        """The status of this replica; while it follows, with the groups of the leader."""
        own = await self._inner.status()
        if own.leader:
            return own
        try:
            answer: Status = await self._ask_leader("status", {})
        except (errors.InfraKitError, TimeoutError) as error:
            why = str(error) or "the leader does not answer"
            return msgspec.structs.replace(own, note=own.note if why in own.note else f"{own.note}; {why}")
        return msgspec.structs.replace(
            own,
            epoch=answer.epoch,
            version=answer.version,
            halts=answer.halts,
            groups=answer.groups,
            clusters=answer.clusters,
            leading=answer.replica if answer.leader else "",
            note="",
        )

    async def leader(self) -> LeaderStatus:
        """The leader, and the status of every replica in the roster; without the store, the roster is unknown."""
        own = await self._inner.leader()
        if own.note:
            return own
        entries = await self._roster.entries()
        row = await asyncio.gather(*(self._ask_replica(name, entries[name]) for name in sorted(entries)))
        return msgspec.structs.replace(own, replicas=tuple(row))

    # -- changes of the record, by any replica; and requests that need the leader ------------------------------------

    async def commit(self, **arguments: Any) -> Committed:
        return await self._inner.commit(**arguments)

    async def plan(self, **arguments: Any) -> Planned:
        return await self._at_leader(self._inner.plan, arguments)

    async def why(self, **arguments: Any) -> Explanation:
        return await self._at_leader(self._inner.why, arguments)

    async def members(self, **arguments: Any) -> tuple[MemberStatus, ...]:
        return await self._at_leader(self._inner.members, arguments)

    async def scale(self, **arguments: Any) -> Committed:
        return await self._inner.scale(**arguments)

    async def halt(self, **arguments: Any) -> Committed:
        return await self._inner.halt(**arguments)

    async def unhalt(self, **arguments: Any) -> Committed:
        return await self._inner.unhalt(**arguments)

    async def pause(self, **arguments: Any) -> Committed:
        return await self._inner.pause(**arguments)

    async def resume(self, **arguments: Any) -> Committed:
        if arguments.get("despite_unhealthy"):  # only the leader knows which instances are unhealthy
            return await self._at_leader(self._inner.resume, arguments)
        return await self._inner.resume(**arguments)

    async def abort(self, **arguments: Any) -> Committed:
        return await self._inner.abort(**arguments)

    async def rollback(self, **arguments: Any) -> Committed:
        return await self._inner.rollback(**arguments)

    async def adopt(self, **arguments: Any) -> Committed:
        return await self._inner.adopt(**arguments)

    async def adopt_account(self, **arguments: Any) -> Committed:
        return await self._at_leader(self._inner.adopt_account, arguments)  # only the leader observes accounts

    async def free(self, **arguments: Any) -> Committed:
        return await self._inner.free(**arguments)

    async def destroy(self, **arguments: Any) -> Committed:
        return await self._inner.destroy(**arguments)

    async def destroy_instance(self, **arguments: Any) -> Committed:
        return await self._at_leader(self._inner.destroy_instance, arguments)

    async def logs(self, **arguments: Any) -> str:
        return await self._at_leader(self._inner.logs, arguments)

    async def tail(self, **arguments: Any) -> LogPart:
        return await self._at_leader(self._inner.tail, arguments)

    async def history(self, **arguments: Any) -> tuple[Version, ...]:
        return await self._inner.history(**arguments)

    async def show(self, **arguments: Any) -> str:
        return await self._inner.show(**arguments)

    async def restore(self, **arguments: Any) -> Committed:
        return await self._inner.restore(**arguments)

    async def resign(self, **arguments: Any) -> None:
        await self._at_leader(self._inner.resign, arguments)

    async def forget(self, *, replica: str, who: str, why: str) -> None:
        """Remove the entry of a replica that does not answer. If it runs again, it adds itself."""
        entries = await self._roster.entries()
        if replica not in entries:
            raise errors.NotFound(
                f"there is no replica {replica!r}", remedy=names.remedy(replica, entries, listed="replicas")
            )
        found = await self._ask_replica(replica, entries[replica])
        if found.role != AWAY:
            raise errors.Refused(
                f"{replica} answers at {found.address}", remedy="stop it: a replica that stops removes itself"
            )
        await self._roster.remove(replica, entries[replica])
        self._replica.announce_forgotten(replica, who, why)

    async def shutdown(self, **arguments: Any) -> None:
        await self._inner.shutdown(**arguments)

    async def _at_leader(self, method: Callable[..., Awaitable[T]], arguments: dict[str, Any]) -> T:
        """Call a method that needs the running controllers: here if this replica is active, else at the leader."""
        try:
            return await method(**arguments)
        except errors.NotLeader:
            if self._replica.active.is_set():
                raise
        answer: T = await self._ask_leader(method.__name__, arguments)
        return answer

    # -- other replicas --------------------------------------------------------------------------------------------

    async def _ask_leader(self, name: str, arguments: dict[str, Any]) -> Any:
        leader, entry = await self._find()
        try:
            async with asyncio.timeout(ANSWER_S):
                remote = await client.connect(Manager, leader, entry.address)
        except (errors.Unreachable, errors.OutcomeUnknown, TimeoutError) as error:
            why = error.what if isinstance(error, errors.InfraKitError) else f"no answer within {ANSWER_S:g} s"
            raise errors.NotLeader(
                f"the leader {leader} does not answer at {entry.address}: {why}",
                remedy="see: infrakit leader; retry after a failover",
            ) from None
        try:
            async with asyncio.timeout(FORWARD_S):
                return await getattr(remote, name)(**arguments)
        except TimeoutError:
            raise errors.OutcomeUnknown(
                f"the leader {leader} has not answered within {FORWARD_S:g} s", remedy="see: infrakit leader"
            ) from None
        finally:
            await remote.close()

    async def _find(self) -> tuple[str, ReplicaEntry]:
        """Return the leader and its roster entry; never those of this replica, because the request would loop."""
        own = self._replica.name
        try:
            contents = await self._replica.peek()
            entries = await self._roster.entries()
        except TimeoutError:
            raise errors.NotLeader(f"{own} does not lead, and the store does not answer: leader unknown") from None
        leader = contents.leader
        if not leader or leader == own:
            raise errors.NotLeader("no replica is active now", remedy="see: infrakit leader")
        if leader not in entries:
            raise errors.NotLeader(f"the address of the leader {leader} is unknown", remedy="run the command there")
        return leader, entries[leader]

    async def _ask_replica(self, name: str, entry: ReplicaEntry) -> ReplicaStatus:
        loop = asyncio.get_running_loop()
        row = ReplicaStatus(
            name=name,
            role=AWAY,
            address=entry.address,
            version=entry.version,
            format=entry.format,
            host=entry.host,
            pid=entry.pid,
            started=entry.started,
        )
        began = loop.time()
        if name == self._replica.name:
            status = await self._inner.status()
        else:
            try:
                async with asyncio.timeout(ANSWER_S):
                    remote = await client.connect(Manager, name, entry.address)
                    try:
                        status = await remote.status()
                    finally:
                        await remote.close()
            except (errors.InfraKitError, TimeoutError) as error:
                return msgspec.structs.replace(row, note=str(error) or f"no answer within {ANSWER_S:g} s")
        role = "leader" if status.leader else "follower"
        return msgspec.structs.replace(row, role=role, took_s=loop.time() - began)
