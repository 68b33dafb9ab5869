"""The Swarm objects of the Engine's API as values: only the fields that InfraKit uses, under its own names."""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """An Engine's own state, and a summary of its Swarm."""

    node_id: str  # empty: it is not in a Swarm
    state: str  # inactive, pending, active, error, locked
    control: bool  # whether it is a functioning manager
    error: str
    addr: str  # the node's own address
    managers: tuple[str, ...]  # ADDRESS:PORT of the managers it knows
    cluster_id: str  # this and the following fields are set on managers only; elsewhere empty or 0
    nodes: int
    manager_count: int

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Info":
        swarm = raw.get("Swarm") or {}
        return cls(
            node_id=swarm.get("NodeID") or "",
            state=swarm.get("LocalNodeState") or "",
            control=bool(swarm.get("ControlAvailable")),
            error=swarm.get("Error") or "",
            addr=swarm.get("NodeAddr") or "",
            managers=tuple(each["Addr"] for each in swarm.get("RemoteManagers") or ()),
            cluster_id=(swarm.get("Cluster") or {}).get("ID") or "",
            nodes=swarm.get("Nodes") or 0,
            manager_count=swarm.get("Managers") or 0,
        )


class Manager(msgspec.Struct, frozen=True, kw_only=True):
    """A node's status as a member of the quorum."""

    addr: str  # ADDRESS:PORT
    leader: bool
    reachability: str  # unknown, unreachable, reachable


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node in the Swarm's node list."""

    id: str
    version: int
    role: str  # manager, worker: the desired role
    availability: str  # active, pause, drain
    labels: dict[str, str]  # of the node, stored by the Swarm
    hostname: str
    engine_labels: dict[str, str]  # from the configuration of its Engine
    engine_version: str
    state: str  # ready, down, unknown, disconnected
    message: str
    addr: str  # as the manager sees it
    manager: Manager | None  # None: it is not a member of the quorum
    created: str  # this and `updated`: RFC 3339, by the clock of the leader at that time
    updated: str

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Node":
        spec, description, status = raw["Spec"], raw.get("Description") or {}, raw.get("Status") or {}
        engine, manager = description.get("Engine") or {}, raw.get("ManagerStatus")
        return cls(
            id=raw["ID"],
            version=raw["Version"]["Index"],
            role=spec.get("Role") or "",
            availability=spec.get("Availability") or "",
            labels=spec.get("Labels") or {},
            hostname=description.get("Hostname") or "",
            engine_labels=engine.get("Labels") or {},
            engine_version=engine.get("EngineVersion") or "",
            state=status.get("State") or "",
            message=status.get("Message") or "",
            addr=status.get("Addr") or "",
            manager=manager
            and Manager(
                addr=manager.get("Addr") or "",
                leader=bool(manager.get("Leader")),
                reachability=manager.get("Reachability") or "",
            ),
            created=raw.get("CreatedAt") or "",
            updated=raw.get("UpdatedAt") or "",
        )


class JoinTokens(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets that let a node join the Swarm. `repr` does not show them."""

    worker: str
    manager: str

    def __repr__(self) -> str:
        return "JoinTokens(...)"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a Swarm."""

    id: str
    version: int
    spec: Mapping[str, Any]  # unmodified, because an update must send all of it
    labels: dict[str, str]
    join_tokens: JoinTokens
    rotating: bool  # whether its root certificate is being replaced

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Cluster":
        tokens = raw.get("JoinTokens") or {}
        return cls(
            id=raw["ID"],
            version=raw["Version"]["Index"],
            spec=raw["Spec"],
            labels=raw["Spec"].get("Labels") or {},
            join_tokens=JoinTokens(worker=tokens.get("Worker") or "", manager=tokens.get("Manager") or ""),
            rotating=bool(raw.get("RootRotationInProgress")),
        )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A config: mutable labels and immutable data."""

    id: str
    version: int
    name: str
    labels: dict[str, str]
    data: bytes
    updated: str  # RFC 3339

    def __repr__(self) -> str:
        return f"Config(id={self.id!r}, version={self.version}, name={self.name!r})"

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Config":
        spec = raw["Spec"]
        return cls(
            id=raw["ID"],
            version=raw["Version"]["Index"],
            name=spec["Name"],
            labels=spec.get("Labels") or {},
            data=base64.b64decode(spec.get("Data") or ""),
            updated=raw.get("UpdatedAt") or "",
        )


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task of a service: one container that the Swarm schedules on a node."""

    id: str
    node: str  # empty: not scheduled yet
    service: str
    state: str  # new, pending, assigned, ..., running, complete, shutdown, failed, rejected, orphaned, remove
    desired: str
    message: str

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Task":
        status = raw.get("Status") or {}
        return cls(
            id=raw["ID"],
            node=raw.get("NodeID") or "",
            service=raw.get("ServiceID") or "",
            state=status.get("State") or "",
            desired=raw.get("DesiredState") or "",
            message=status.get("Err") or status.get("Message") or "",
        )
