"""A manager with canned responses that records the requests it receives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from infrakit.spi.errors import InfraKitError, NotFound
from infrakit.spi.event import Event, Kind
from infrakit.spi.instance import LogPart
from infrakit.spi.manager import (
    Change,
    Committed,
    Explanation,
    GroupStatus,
    Halt,
    LeaderStatus,
    MemberStatus,
    Planned,
    Reasoned,
    ReplicaStatus,
    Status,
    Verdict,
    Version,
)
from infrakit.spi.values import Allocation, Attachment, GroupID, InstanceID, LogicalID, Slot

NOW = "2026-11-23T11:25:06.000000Z"
STARTED = "2026-11-23T11:21:54.000000Z"


def group(name: str, **changes: Any) -> GroupStatus:
    values: dict[str, Any] = {
        "name": GroupID(name),
        "kind": "cattle",
        "allocation": Allocation(size=3),
        "hash": "abcdef0123456789",
        "want": 3,
        "live": 3,
        "healthy": 3,
        "up_to_date": 3,
        "converged": True,
        "phase": "converged",
        "observed_age_s": 0.4,
    }
    return GroupStatus(**values | changes)


WAIT = Reasoned(
    verb="wait",
    subject="web-2",
    reason="unhealthy for 12s of 30s: tcp 127.0.0.1:8002 refused 1s ago",
    rule="unhealthy-after",
    remedy="it becomes healthy",
    next_look="2026-11-23T11:25:24.000000Z",
)
HEALING = group("web", healthy=2, converged=False, phase="healing", waiting=(WAIT,))
HALT = Halt(who="ann@box", when=STARTED, why="moving the rack")
COMMITTED = Committed(version=8, changes=(Change(path="web.properties.Allocation.Size", old="3", new="5"),))
MEMBERS = (
    MemberStatus(
        group=GroupID("web"),
        id=InstanceID("web-1"),
        slot=Slot("1"),
        state="running",
        health=Verdict.HEALTHY,
        note="tcp 127.0.0.1:8001 answers",
        health_age_s=1.0,
        age_s=192.0,
        up_to_date=True,
        hash="abcdef0123456789",
        is_self=True,
    ),
    MemberStatus(
        group=GroupID("store"),
        id=InstanceID("store-1"),
        slot=Slot("127.0.0.12"),
        logical_id=LogicalID("127.0.0.12"),
        state="running",
        health=Verdict.UNHEALTHY,
        note="\x1b[31mred\nalert",
        age_s=7300.0,
        hash="0000000000",
        tags={"tier": "data", "infrakit.group": "store"},
        attachments=(Attachment(id="vol-12", type="volume"),),
    ),
    MemberStatus(group=GroupID("web"), slot=Slot("2"), state="creating"),
)

REPLICAS = tuple(
    ReplicaStatus(
        name=name,
        role=role,
        address=f"https://{name}:24864/",
        version="1.0",
        format=1,
        host=name,
        pid=4711,
        started=STARTED,
        took_s=took_s,
        note=note,
    )
    for name, role, took_s, note in (
        ("box", "leader", 0.0021, ""),
        ("cox", "follower", 0.0042, ""),
        ("dox", "away", None, "nobody answers there"),
    )
)


class CannedFacts:
    """Satisfies `Metadata`: a tree of one fact."""

    async def keys(self, *, path: str) -> Sequence[str] | None:
        return {"": ["host"], "host": ["zone"]}.get(path)

    async def get(self, *, path: str) -> msgspec.Raw:
        return msgspec.Raw({"host": b'{"zone": "north"}', "host/zone": b'"north"'}.get(path, b"null"))


class CannedManager:
    """Satisfies `Manager`. `orders` records every request; tests set `failures` by method."""

    def __init__(self) -> None:
        self.groups: list[GroupStatus] = [group("store", kind="pets"), group("web")]
        self.listed: tuple[MemberStatus, ...] = MEMBERS
        self.version = 7
        self.halts: tuple[Halt, ...] = ()
        self.orders: list[tuple[str, dict[str, Any]]] = []
        self.failures: dict[str, InfraKitError] = {}
        self.committed = COMMITTED
        self.asked = asyncio.Event()  # for the status
        self.on_status: Callable[[], None] = lambda: None
        self.on_shutdown: Callable[[], Awaitable[None]] | None = None
        self.planned = Planned(base_version=7)
        self.leads = True
        self.note = ""
        self.replicas: tuple[ReplicaStatus, ...] = REPLICAS
        self.parts: list[LogPart] = []
        self.journal = CannedEvents()
        self.facts = CannedFacts()

    def _record(self, method: str, **parameters: Any) -> Committed:
        if method in self.failures:
            raise self.failures[method]
        self.orders.append((method, parameters))
        return self.committed

    async def status(self) -> Status:
        if "status" in self.failures:
            raise self.failures["status"]
        self.asked.set()
        self.on_status()
        return Status(
            leader=self.leads,
            note=self.note,
            replica="box",
            epoch=3,
            version=self.version,
            pid=4711,
            started=STARTED,
            now=NOW,
            halts=self.halts,
            groups=tuple(self.groups),
        )

    async def commit(
        self,
        *,
        text: str,
        source: str,
        who: str,
        why: str,
        expected: int | None = None,
        destroys: int = 0,
        adopts: str = "",
    ) -> Committed:
        asked = {"destroys": destroys} if destroys else {}
        more = {"adopts": adopts} if adopts else {}
        return self._record("commit", text=text, source=source, who=who, why=why, expected=expected, **asked, **more)

    async def plan(self, *, text: str, source: str) -> Planned:
        self._record("plan", text=text, source=source)
        return self.planned

    async def why(self, *, group: GroupID, subject: str = "") -> Explanation:
        self._record("why", group=group, subject=subject)
        return Explanation(
            subject=f"{group}/{subject}" if subject else group,
            summary="it is being healed",
            facts=("tcp 127.0.0.1:8002 refused, 1s ago",),
            waiting=(WAIT,),
            story=("11:21:54 created",),
            next_look=NOW,
        )

    async def members(self, *, group: GroupID | None = None) -> tuple[MemberStatus, ...]:
        if group is not None and group not in {each.name for each in self.groups}:
            raise NotFound(f"there is no group {group!r}")
        return tuple(member for member in self.listed if group in (None, member.group))

    async def scale(self, *, group: GroupID, size: int, who: str, why: str, expected: int | None = None) -> Committed:
        return self._record("scale", group=group, size=size, who=who, why=why, expected=expected)

    async def halt(self, *, group: GroupID | None = None, who: str, why: str) -> Committed:
        return self._record("halt", group=group, who=who, why=why)

    async def unhalt(self, *, group: GroupID | None = None, who: str, why: str) -> Committed:
        return self._record("unhalt", group=group, who=who, why=why)

    async def pause(self, *, group: GroupID, who: str, why: str) -> Committed:
        return self._record("pause", group=group, who=who, why=why)

    async def resume(self, *, group: GroupID, who: str, why: str, despite_unhealthy: bool = False) -> Committed:
        return self._record("resume", group=group, who=who, why=why, despite_unhealthy=despite_unhealthy)

    async def abort(self, *, group: GroupID, who: str, why: str) -> Committed:
        return self._record("abort", group=group, who=who, why=why)

    async def rollback(self, *, group: GroupID, who: str, why: str) -> Committed:
        return self._record("rollback", group=group, who=who, why=why)

    async def adopt(self, *, cluster: str, who: str, why: str) -> Committed:
        return self._record("adopt", cluster=cluster, who=who, why=why)

    async def adopt_account(self, *, plugin: str, identity: str, who: str, why: str) -> Committed:
        return self._record("adopt_account", plugin=plugin, identity=identity, who=who, why=why)

    async def free(self, *, group: GroupID, who: str, why: str) -> Committed:
        return self._record("free", group=group, who=who, why=why)

    async def destroy(self, *, group: GroupID, who: str, why: str, volumes: bool = False) -> Committed:
        return self._record("destroy", group=group, who=who, why=why, volumes=volumes)

    async def destroy_instance(self, *, instance: InstanceID, who: str, why: str, replace: bool = True) -> Committed:
        return self._record("destroy_instance", instance=instance, who=who, why=why, replace=replace)

    async def logs(self, *, instance: InstanceID, lines: int = 100) -> str:
        self._record("logs", instance=instance, lines=lines)
        return "one\ntwo\n"

    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 100) -> LogPart:
        self._record("tail", instance=instance, after=after, lines=lines)
        return self.parts.pop(0) if self.parts else LogPart(text="", position=0, ended=True)

    async def history(self, *, limit: int = 50) -> tuple[Version, ...]:
        entry = Version(
            version=7, when=STARTED, who="ann@box", why="launch", what="commit", hash="ff", groups=(GroupID("web"),)
        )
        return (entry,)[:limit]

    async def show(self, *, version: int) -> str:
        self._record("show", version=version)
        return '[{"kind": "group", "metadata": {"name": "web"}}]'

    async def restore(
        self, *, version: int, who: str, why: str, expected: int | None = None, destroys: int = 0
    ) -> Committed:
        asked = {"destroys": destroys} if destroys else {}
        return self._record("restore", version=version, who=who, why=why, expected=expected, **asked)

    async def leader(self) -> LeaderStatus:
        name = "box" if self.leads else ""
        return LeaderStatus(
            leader=name,
            epoch=3,
            since=STARTED,
            replica="box",
            observed="the local member of etcd leads",
            observed_age_s=0.2,
            replicas=self.replicas,
            note=self.note,
        )

    async def resign(self, *, who: str, why: str) -> None:
        self._record("resign", who=who, why=why)

    async def forget(self, *, replica: str, who: str, why: str) -> None:
        self._record("forget", replica=replica, who=who, why=why)

    async def shutdown(self, *, who: str, why: str) -> None:
        self._record("shutdown", who=who, why=why)
        if self.on_shutdown is not None:
            await self.on_shutdown()


class CannedEvents:
    """Three events, and those that a test adds."""

    def __init__(self) -> None:
        self.events = [
            Event(
                seq=1,
                timestamp="2026-11-23T11:21:54.601500Z",
                type=Kind.CREATED,
                group=GroupID("web"),
                slot=Slot("3"),
                instance=InstanceID("web-3"),
                message="up after 0.2s",
                cause="heal",
            ),
            Event(seq=2, timestamp=STARTED, type=Kind.UNHEALTHY, group=GroupID("store"), message="\x1b[31mrefused"),
            Event(seq=3, timestamp=NOW, type=Kind.STOPPED, message="bye"),
        ]
        self.newest = 3
        self.added = asyncio.Condition()

    async def add(self, event: Event) -> None:
        self.events.append(event)
        self.newest = event.seq
        async with self.added:
            self.added.notify_all()

    async def since(self, seq: int, *, group: str | None = None) -> list[Event]:
        return [event for event in self.events if event.seq > seq and group in (None, event.group)]

    async def follow(self, since: int, group: str | None = None) -> AsyncIterator[Event]:
        while True:
            for event in [e for e in self.events if e.seq > since]:
                since = event.seq
                if group in (None, event.group):
                    yield event
            async with self.added:
                await self.added.wait_for(lambda: self.newest > since)  # noqa: B023


Serve = Callable[[CannedManager], AbstractAsyncContextManager[object]]
