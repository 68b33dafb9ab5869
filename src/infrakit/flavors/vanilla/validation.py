"""Validates the properties of the flavor beyond their types, and reports all problems at once."""

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from infrakit.flavors.vanilla import placeholders, probes
from infrakit.flavors.vanilla.properties import Check, Command, Properties
from infrakit.spec import path as paths
from infrakit.spi.errors import Problem
from infrakit.spi.values import Allocation

_RESERVED = "infrakit."
_PORT_MAX = 65535


def problems(properties: Properties, allocation: Allocation) -> Iterator[Problem]:
    """Yield all problems, in the order in which the properties are documented."""
    yield from _init(properties)
    yield from _tags(properties.tags, "Tags")
    yield from _attachments(properties, allocation)
    yield from _individuals(properties, allocation)
    yield from _port(properties, allocation)
    if properties.quorum and allocation.logical_ids is None:
        message = "found true, but the group has a Size: members of a quorum need an identity"
        yield Problem(path="Quorum", message=message, hint="declare LogicalIDs")
    has_port = properties.port is not None
    if properties.health is not None:
        yield from _check(properties.health, allocation, has_port=has_port)
    if properties.drain is not None:
        yield from _command(properties.drain.command, "Drain.Command", allocation, has_port=has_port)


def _init(properties: Properties) -> Iterator[Problem]:
    path = "InitScriptTemplateURL"
    if properties.init_script_template_url and properties.init:
        yield Problem(path=path, message='Either "Init" or "InitScriptTemplateURL" can be specified but not both')


def _tags(tags: dict[str, str], *place: str) -> Iterator[Problem]:
    for name in tags:
        if not name:
            yield Problem(path=paths.join(place), message="a tag has no name")
        if name.startswith(_RESERVED):
            message = f"tags that begin with {_RESERVED} are InfraKit's own"
            yield Problem(path=paths.join((*place, name)), message=message, hint="choose another name")


def _attachments(properties: Properties, allocation: Allocation) -> Iterator[Problem]:
    declared = properties.attachments
    if not declared:
        return
    if isinstance(declared, dict):
        yield from _logical_ids(declared, "Attachments", allocation)
        by_path = {paths.join(("Attachments", name)): each for name, each in declared.items()}
    else:
        count = len(allocation.logical_ids) if allocation.logical_ids is not None else allocation.size or 0
        if count > 1:
            message = f"a list gives the same attachments to each of the {count} instances"
            yield Problem(
                path="Attachments", message=message, hint='by logical ID: {"10.0.0.1": [{ID: ..., Type: ...}]}'
            )
        by_path = {"Attachments": declared}
    first: dict[tuple[str, str], str] = {}
    for path, group in by_path.items():
        for position, each in enumerate(group):
            here = f"{path}[{position}]"
            there = first.setdefault((each.type, each.id), here)
            if there != here:
                yield Problem(path=here, message=f"{each.type} {each.id!r} is declared at {there} already")


def _individuals(properties: Properties, allocation: Allocation) -> Iterator[Problem]:
    yield from _logical_ids(properties.by_logical_id, "ByLogicalID", allocation)
    for name, individual in properties.by_logical_id.items():
        yield from _tags(individual.tags, "ByLogicalID", name, "Tags")


def _logical_ids(names: Iterable[str], path: str, allocation: Allocation) -> Iterator[Problem]:
    known = [str(each) for each in allocation.logical_ids or ()]
    for name in names:
        if allocation.logical_ids is None:
            message = "is given by logical ID, but the group has a Size"
            yield Problem(path=paths.join((path, name)), message=message, hint="declare Allocation.LogicalIDs")
        elif name not in known:
            message = f"{name!r} is not among Allocation.LogicalIDs"
            yield Problem(
                path=paths.join((path, name)), message=message, hint=f"there are {', '.join(known) or 'none'}"
            )


def _port(properties: Properties, allocation: Allocation) -> Iterator[Problem]:
    if properties.port is None:
        return
    count = len(allocation.logical_ids) if allocation.logical_ids is not None else allocation.size or 0
    if properties.port.base + count > _PORT_MAX:
        message = f"{properties.port.base} + {count} instances is above {_PORT_MAX}"
        yield Problem(path="Port.Base", message=message)


def _check(check: Check, allocation: Allocation, *, has_port: bool) -> Iterator[Problem]:
    declared = [name for name in ("Command", "TCP", "HTTP") if getattr(check, name.lower()) is not None]
    if len(declared) != 1:
        found = " and ".join(declared) or "none"
        yield Problem(path="Health", message=f"exactly one of Command, TCP and HTTP is needed, found {found}")
    if check.command is not None:
        yield from _command(check.command, "Health.Command", allocation, has_port=has_port)
    if check.tcp is not None:
        yield from _target(check.tcp.address, "Health.TCP.Address", allocation, has_port=has_port)
    if check.http is not None:
        yield from _target(check.http.url, "Health.HTTP.URL", allocation, has_port=has_port)


def _command(command: Command, path: str, allocation: Allocation, *, has_port: bool) -> Iterator[Problem]:
    if isinstance(command, str):
        return  # the shell interprets it
    for position, word in enumerate(command):
        yield from placeholders.problems(word, path=f"{path}[{position}]", allocation=allocation, has_port=has_port)


def _target(text: str, path: str, allocation: Allocation, *, has_port: bool) -> Iterator[Problem]:
    """Check an address or a URL, filled with example values."""
    found = list(placeholders.problems(text, path=path, allocation=allocation, has_port=has_port))
    yield from found
    if found:
        return
    filled = placeholders.example_of(text, allocation)
    try:
        if path.endswith("Address"):
            probes.split_address(filled)
        else:
            _read_url(filled)
    except ValueError as error:
        expected = "host:port" if path.endswith("Address") else "http://host:port/path"
        yield Problem(path=path, message=f"{text!r} is no address: {error}", hint=f"write {expected}")


def _read_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"the scheme is {parts.scheme!r}, expected http or https")
    if not parts.hostname:
        raise ValueError("it has no host")
    if parts.port == 0:
        raise ValueError("there is no port 0")
