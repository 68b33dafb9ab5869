"""Every interface that is available over the wire, and its wire format, as a table.

The names, versions and fields of the first part are the original's. The second part contains additions: each is a
separate service, announced in addition to the interface that it extends. So our clients detect the extensions of a
plugin, and the original's clients ignore them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from infrakit.spi import errors, protocols
from infrakit.spi.controller import Controller
from infrakit.spi.event import Topics
from infrakit.spi.flavor import Attaches, Flavor, Hosts, JudgesMany, Members, Quorum, Releases, Voters
from infrakit.spi.group import Groups
from infrakit.spi.instance import (
    Capable,
    DestroyContext,
    Identified,
    Inspects,
    Instance,
    Keeps,
    Logs,
    Tails,
    Volumes,
    Watches,
)
from infrakit.spi.manager import Manager
from infrakit.spi.metadata import Metadata, Tree, Updatable, Versioned
from infrakit.spi.stack import Stack
from infrakit.spi.values import GroupID, Index


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """The wire format of a Protocol."""

    protocol: type
    service: str  # the part of a method's name before the dot
    version: str
    earlier: tuple[str, ...] = ()  # earlier versions of the original that are supported, too
    name: str = ""  # in the handshake, if it differs from the service
    address: str = ""  # the field that selects an object at the socket: Type, Name or none
    subject: str = ""  # the field with the subject of a call, if results repeat it
    results: Mapping[str, str] = {}  # Python method -> the field that holds its value
    defaults: Mapping[str, Any] = {}  # defaults of parameters that older peers do not send
    extends: type | None = None  # the Protocol that it extends and requires
    instead_of: type | None = None  # an object with this interface does not announce that one

    @property
    def announced(self) -> str:
        """The name and version in the handshake."""
        return f"{self.name or self.service}/{self.version}"


INTERFACES = (
    Interface(
        protocol=Instance,
        service="Instance",
        version="0.6.1",
        earlier=("0.5.0", "0.3.0"),
        address="Type",
        results={"provision": "ID", "describe_instances": "Descriptions"},
        defaults={"context": DestroyContext()},
    ),
    Interface(
        protocol=Flavor,
        service="Flavor",
        version="0.1.1",
        earlier=("0.1.0",),
        address="Type",
        results={"prepare": "Spec"},
        defaults={"index": Index(group=GroupID(""), sequence=1)},
    ),
    Interface(
        protocol=Groups,
        service="Group",
        version="0.1.1",
        earlier=("0.1.0",),
        address="Name",
        subject="ID",
        results={
            "commit_group": "Details",
            "describe_group": "Description",
            "inspect_groups": "Groups",
            "size": "Size",
        },
    ),
    Interface(
        protocol=Metadata,
        service="Metadata",
        version="0.1.1",
        address="Name",
        results={"keys": "Nodes", "get": "Value"},
    ),
    Interface(
        protocol=Updatable,
        service="Updatable",
        version="0.1.1",
        address="Name",
        results={"keys": "Nodes", "get": "Value"},
        instead_of=Metadata,
    ),
    Interface(protocol=Topics, service="Event", version="0.1.1", results={"list": "Nodes"}),
    Interface(
        protocol=Controller,
        service="Controller",
        version="0.1.1",
        address="Name",
        results={"describe": "Objects", "free": "Objects"},
    ),
    Interface(
        protocol=Stack,
        service="Manager",
        name="Stack",
        version="0.1.1",
        results={"is_leader": "Leader", "leader_location": "Location", "specs": "Specs"},
    ),
    # -- additions -----------------------------------------------------------------------------------------------------
    Interface(
        protocol=Manager,
        service="Manager",
        version="0.1.0",
        results={"members": "Members", "logs": "Text", "history": "Versions", "show": "Text"},
    ),
    Interface(protocol=Capable, service="Capable", version="0.1.0", address="Type", extends=Instance),
    Interface(
        protocol=Inspects,
        service="Inspects",
        version="0.1.0",
        address="Type",
        results={"inspect": "Description"},
        extends=Instance,
    ),
    Interface(protocol=Watches, service="Watches", version="0.1.0", address="Type", extends=Instance),
    Interface(
        protocol=Logs, service="Logs", version="0.1.0", address="Type", results={"logs": "Text"}, extends=Instance
    ),
    Interface(protocol=Tails, service="Tails", version="0.1.0", address="Type", extends=Instance),
    Interface(
        protocol=Volumes,
        service="Volumes",
        version="0.1.0",
        address="Type",
        extends=Instance,
    ),
    Interface(
        protocol=Keeps,
        service="Keeps",
        version="0.1.0",
        address="Type",
        results={"existing": "Attachments"},
        extends=Instance,
    ),
    Interface(
        protocol=Identified,
        service="Identified",
        version="0.1.0",
        address="Type",
        results={"identity": "Identity"},
        extends=Instance,
    ),
    Interface(
        protocol=JudgesMany,
        service="JudgesMany",
        version="0.1.0",
        address="Type",
        results={"healthy_all": "Reports"},
        extends=Flavor,
    ),
    Interface(
        protocol=Quorum,
        service="Quorum",
        version="0.1.0",
        address="Type",
        results={"is_quorum": "Quorum"},
        extends=Flavor,
    ),
    Interface(
        protocol=Attaches,
        service="Attaches",
        version="0.1.0",
        address="Type",
        results={"attachments": "Attachments"},
        extends=Flavor,
    ),
    Interface(
        protocol=Releases,
        service="Releases",
        version="0.1.0",
        address="Type",
        extends=Flavor,
    ),
    Interface(
        protocol=Hosts,
        service="Hosts",
        version="0.1.0",
        address="Type",
        results={"replicas": "Replicas"},
        extends=Flavor,
    ),
    Interface(
        protocol=Members,
        service="Members",
        version="0.1.0",
        address="Type",
        results={"membership": "Changes"},
        extends=Flavor,
    ),
    Interface(
        protocol=Voters,
        service="Voters",
        version="0.1.0",
        address="Type",
        results={"voters": "Voters"},
        extends=Flavor,
    ),
    Interface(
        protocol=Versioned,
        service="Versioned",
        version="0.1.0",
        address="Name",
        results={"history": "Revisions", "show": "Value"},
        extends=Updatable,
    ),
    Interface(
        protocol=Tree,
        service="Tree",
        version="0.1.0",
        address="Name",
        results={"branches": "Branches", "history": "Revisions", "show": "Value"},
        extends=Metadata,
    ),
)

_BY_PROTOCOL = {interface.protocol: interface for interface in INTERFACES}


def of(protocol: type) -> Interface:
    """Return the wire format of a Protocol."""
    return _BY_PROTOCOL[protocol]


def extensions(protocol: type) -> Iterator[Interface]:
    """Return the interfaces that extend `protocol`."""
    return (interface for interface in INTERFACES if interface.extends is protocol)


def serves(plugin: object, interface: Interface) -> bool:
    """Whether an object is announced as that interface."""
    if not protocols.satisfies(plugin, interface.protocol):
        return False
    if interface.extends is not None and not protocols.satisfies(plugin, interface.extends):
        return False
    return not any(
        other.instead_of is interface.protocol and protocols.satisfies(plugin, other.protocol) for other in INTERFACES
    )


def hidden(plugin: object, interface: Interface) -> str:
    """Explain why an object is not announced: `__getattr__` supplies its methods. Empty if that is not the cause."""
    if interface.extends is not None and not protocols.satisfies(plugin, interface.extends):
        return ""
    names = protocols.hidden(plugin, interface.protocol)
    return f"{interface.service}: {protocols.explain_hidden(plugin, names)}" if names else ""


def require(objects: Mapping[str, object | tuple[object, ...]], required: Mapping[str, tuple[type, ...]]) -> None:
    """Check that a daemon's objects serve the required Protocols. Raises `PluginError` with the missing methods."""
    for name, wanted in required.items():
        held = objects[name]
        served = held if isinstance(held, tuple) else (held,)
        for protocol in wanted:
            if not any(protocols.satisfies(each, protocol) for each in served):
                lacking = min((protocols.missing(each, protocol) for each in served), key=len)
                what = f"{of(protocol).service} cannot be served: no method {', '.join(lacking)}"
                raise errors.PluginError(what, where=f"object {name!r} of this daemon")
