"""Nodes and instances as plain values."""

from typing import Any

import msgspec

from infrakit.clients.swarm_values import Manager, Node
from infrakit.flavors.swarm.link import LINK
from infrakit.spi.values import (
    TAG_GROUP,
    TAG_LOGICAL_ID,
    Allocation,
    Description,
    InstanceID,
    LogicalID,
    State,
)


def raw(**properties: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(properties))


def pets(*names: str) -> Allocation:
    return Allocation(logical_ids=tuple(LogicalID(each) for each in names))


def instance(link: str, name: str | None = None, *, state: State = State.RUNNING, group: str = "g") -> Description:
    return Description(
        id=InstanceID(f"i-{link}"),
        logical_id=LogicalID(name) if name else None,
        tags={LINK: link, TAG_GROUP: group},
        state=state,
    )


def node(id_: str, link: str = "", name: str = "", *, group: str = "g", **fields: Any) -> Node:
    """A worker that is ready, unless the fields define otherwise."""
    own = {LINK: link, TAG_GROUP: group, TAG_LOGICAL_ID: name}
    plain: dict[str, Any] = {
        "version": 1,
        "role": "worker",
        "availability": "active",
        "labels": {},
        "hostname": "",
        "engine_labels": {label: value for label, value in own.items() if value},
        "engine_version": "",
        "state": "ready",
        "message": "",
        "addr": name,
        "manager": None,
        "created": "",
        "updated": "",
    }
    return Node(id=id_, **(plain | fields))


def manager(id_: str, link: str = "", name: str = "", *, able: bool = True, leads: bool = False, **fields: Any) -> Node:
    """A manager that has a vote."""
    standing = Manager(addr=f"{name}:2377", leader=leads, reachability="reachable" if able else "unreachable")
    plain: dict[str, Any] = {"role": "manager", "manager": standing, "state": "ready" if able else "down"}
    return node(id_, link, name, **(plain | fields))
