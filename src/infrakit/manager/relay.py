"""The operator's interface of one replica among several: what only the leader can tell is asked of the leader.

Every change of the declaration is a compare-and-swap in the store, so any replica makes it itself. What needs the
running controllers (what exists, why, what a plan would do, logs) comes from where they run.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from infrakit.manager.operator import Operator
from infrakit.manager.replica import Replica
from infrakit.manager.roster import Entry, Roster
from infrakit.rpc import client
from infrakit.spi import errors
from infrakit.spi.manager import LeaderStatus, Manager, ReplicaStatus, Status

ANSWER_S = 3.0  # of another replica, when it is only asked how it is
FORWARD_S = 11.0  # of the leader; with the time to reach it, a little less than the command line waits


class Relay:
    """Satisfies `spi.manager.Manager`; `inner` answers whatever this replica can answer by itself."""

    def __init__(self, inner: Operator, replica: Replica, roster: Roster) -> None:
        self._inner = inner
        self._replica = replica
        self._roster = roster

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_") or not hasattr(Manager, name):
            raise AttributeError(name)
        method: Callable[..., Awaitable[Any]] = getattr(self._inner, name)

        @functools.wraps(method)
        async def ask(**arguments: Any) -> Any:
            try:
                return await method(**arguments)
            except errors.NotLeader:
                if self._replica.active.is_set():
                    raise
            return await self._ask_leader(name, arguments)

        return ask

    async def status(self) -> Status:
        """Ours, with the leader's groups where we have none."""
        own = await self._inner.status()
        if own.leader:
            return own
        try:
            led: Status = await self._ask_leader("status", {})
        except (errors.InfraKitError, TimeoutError) as error:
            why = str(error) or "the leader does not answer"
            return msgspec.structs.replace(own, note=own.note if why in own.note else f"{own.note}; {why}")
        return msgspec.structs.replace(
            own,
            epoch=led.epoch,
            version=led.version,
            halts=led.halts,
            groups=led.groups,
            leading=led.replica if led.leader else "",
            note="",
        )

    async def leader(self) -> LeaderStatus:
        """With every replica that the roster knows, and how each is; without the store, nobody knows the roster."""
        own = await self._inner.leader()
        if own.note:
            return own
        entries = await self._roster.entries()
        told = await asyncio.gather(*(self._ask_replica(name, entries[name]) for name in sorted(entries)))
        return msgspec.structs.replace(own, replicas=tuple(told))

    # -- the others ------------------------------------------------------------------------------------------------

    async def _ask_leader(self, name: str, arguments: dict[str, Any]) -> Any:
        leader, entry = await self._find()
        try:
            async with asyncio.timeout(ANSWER_S):
                remote = await client.connect(Manager, leader, entry.address)
        except (errors.Unreachable, errors.OutcomeUnknown, TimeoutError) as error:
            why = error.what if isinstance(error, errors.InfraKitError) else f"no answer within {ANSWER_S:g} s"
            raise errors.NotLeader(
                f"{leader} leads and does not answer at {entry.address}: {why}",
                remedy="see: infrakit leader; ask again when another leads",
            ) from None
        try:
            async with asyncio.timeout(FORWARD_S):
                return await getattr(remote, name)(**arguments)
        except TimeoutError:
            raise errors.OutcomeUnknown(
                f"{leader} leads and has not answered within {FORWARD_S:g} s", remedy="see: infrakit leader"
            ) from None
        finally:
            await remote.close()

    async def _find(self) -> tuple[str, Entry]:
        """Who leads, and where. Never ourselves: that would go round in circles."""
        own = self._replica.name
        try:
            book = await self._replica.peek()
            entries = await self._roster.entries()
        except TimeoutError:
            raise errors.NotLeader(f"{own} does not lead, and the store does not say who does") from None
        leader = book.leader
        if not leader or leader == own:
            raise errors.NotLeader("no replica is active now", remedy="see: infrakit leader")
        if leader not in entries:
            raise errors.NotLeader(f"{leader} leads, and its address is not known", remedy="ask there")
        return leader, entries[leader]

    async def _ask_replica(self, name: str, entry: Entry) -> ReplicaStatus:
        loop = asyncio.get_running_loop()
        told = ReplicaStatus(name=name, role="away", **msgspec.structs.asdict(entry))
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
                return msgspec.structs.replace(told, note=str(error) or f"no answer within {ANSWER_S:g} s")
        role = "leader" if status.leader else "follower"
        return msgspec.structs.replace(told, role=role, took_s=loop.time() - began)
