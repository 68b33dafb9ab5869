"""The metadata plugin `manager`: the leader, the replicas, the groups and their members, as operators see them.

It queries the operator API, so a follower returns the same as the leader. Unknown facts are omitted: without a leader
there are replicas but no groups. Only the fields listed here are published: no properties of plugins, no tags, no
environment, no output of health checks, because each of them may contain a secret.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any

import msgspec

from infrakit.spi import errors
from infrakit.spi.manager import GroupStatus, LeaderStatus, Manager, MemberStatus, Status
from infrakit.spi.tree import CachedTree

MAX_AGE_S = 1.0
UNAVAILABLE = (errors.InfraKitError, TimeoutError)


class ManagerFacts:
    """Publishes the state of the cluster. Satisfies `spi.metadata.Metadata`. Cached for `max_age_s`."""

    def __init__(self, manager: Manager, *, max_age_s: float = MAX_AGE_S) -> None:
        self._manager = manager
        self._tree = CachedTree(self._build, max_age_s=max_age_s)

    async def keys(self, *, path: str) -> Sequence[str] | None:
        return await self._tree.keys(path=path)

    async def get(self, *, path: str) -> msgspec.Raw:
        return await self._tree.get(path=path)

    async def _build(self) -> dict[str, Any]:
        status, leader, members = await asyncio.gather(
            self._manager.status(), self._manager.leader(), self._manager.members(), return_exceptions=True
        )
        if isinstance(status, BaseException):
            raise status
        tree: dict[str, Any] = {"replica": status.replica, "leader": {}}
        if not isinstance(leader, UNAVAILABLE):
            tree |= _replicas(_unwrap(leader), status)
        if status.groups or not status.note:
            known = {} if isinstance(members, UNAVAILABLE) else _members(_unwrap(members))
            tree["declaration"] = {"version": status.version}
            tree["groups"] = {g.name: _group(g) | {"members": known.get(g.name, {})} for g in status.groups}
        return tree


def _unwrap(answer: Any) -> Any:
    """Return the response, or raise it if it is a cancellation or an internal error."""
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _replicas(reported: LeaderStatus, status: Status) -> dict[str, Any]:
    replicas = {
        r.name: {"role": r.role, "address": r.address, "host": r.host, "version": r.version, "started": r.started}
        for r in reported.replicas
    }
    name = reported.leader or (status.replica if status.leader else status.leading)
    leader = {"name": name, "epoch": reported.epoch, "since": reported.since} if name else {}
    if name in replicas:
        leader["address"] = replicas[name]["address"]
    return {"leader": leader, "replicas": replicas}


def _group(group: GroupStatus) -> dict[str, Any]:
    return {
        "kind": group.kind,
        "want": group.want,
        "live": group.live,
        "healthy": group.healthy,
        "current": group.up_to_date,
        "converged": group.converged,
        "phase": group.phase,
        "halted": group.halt is not None,
        "version": group.hash,
    }


def _members(members: Sequence[MemberStatus]) -> dict[str, dict[str, Any]]:
    """Return the members by group, then by logical ID or slot."""
    found: dict[str, dict[str, Any]] = {}
    for member in members:
        name = str(member.logical_id or member.slot or member.id or "")
        known = found.setdefault(member.group, {})
        if name in known and "id" in known[name]:  # a member being destroyed keeps its slot beside its replacement
            name = str(member.id or name)
        facts = {
            "id": member.id,
            "logical_id": member.logical_id,
            "address": _address(member),
            "state": member.state,
            "health": member.health.value,
            "current": member.up_to_date,
            "attachments": [each.id for each in member.attachments],
        }
        known[name] = {field: value for field, value in facts.items() if value is not None}
    return found


def _address(member: MemberStatus) -> str | None:
    """Return the logical ID of a pet, if it is an address."""
    if member.logical_id is None:
        return None
    try:
        return str(ipaddress.ip_address(member.logical_id))
    except ValueError:
        return None
