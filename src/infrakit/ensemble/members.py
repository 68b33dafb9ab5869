"""Members that are identified by fixed addresses, with one volume each: the rules of their declaration."""

import ipaddress
import re
from collections.abc import Iterator

from infrakit.spi.errors import Problem
from infrakit.spi.values import Allocation, Attachment, LogicalID

VOLUME = "volume"
PLACEHOLDER = "{LogicalID}"  # in a property: replaced by the logical ID of the member

_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def is_address(text: str) -> bool:
    """Whether it is the IP address of one host."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast)


def is_host_name(text: str) -> bool:
    """Whether it is a host name, and not a mistyped address."""
    return bool(_HOST.fullmatch(text)) and not re.fullmatch(r"[\d.]+", text)


def host(address: str) -> str:
    """Return the host part of a URL or of ADDRESS:PORT: IPv6 addresses are bracketed."""
    return f"[{address}]" if ":" in address else address


def attachments(volume: str, logical_id: LogicalID) -> tuple[Attachment, ...]:
    """Return the declared volume of one member; none if `volume` is empty."""
    return (Attachment(id=volume.replace(PLACEHOLDER, logical_id), type=VOLUME),) if volume else ()


def address_problems(allocation: Allocation, *, members: str, names: bool = False) -> Iterator[Problem]:
    """Report each logical ID that is not a distinct address; with `names`, host names are accepted, too."""
    if not allocation.logical_ids:
        found = "a Size" if allocation.logical_ids is None else "none"
        message = f"{members} are identified by their fixed addresses, found {found}"
        yield Problem(path="", message=message, hint='declare Allocation.LogicalIDs: ["10.0.0.1", ...]')
        return
    first: dict[str, str] = {}
    for each in allocation.logical_ids:
        wrong = "" if is_address(each) or (names and is_host_name(each)) else "is not the address of a single host"
        canonical = str(ipaddress.ip_address(each)) if is_address(each) else each.lower()
        if not wrong and canonical in first:
            wrong = f"is the same as {first[canonical]!r}"
        first.setdefault(canonical, each)
        if wrong:
            message = f"the logical ID {each!r} {wrong}"
            yield Problem(path="", message=message, hint="write the fixed address of the member, such as 10.0.0.1")


def volume_problems(volume: str, allocation: Allocation, *, example: str) -> Iterator[Problem]:
    """Report a volume ID that is the same for several members."""
    yield from placeholder_problems("Volume", volume)
    if volume and PLACEHOLDER not in volume and len(allocation.logical_ids or ()) > 1:
        message = f"{volume!r} is the same volume for every member"
        yield Problem(path="Volume", message=message, hint=f"such as {example}-{PLACEHOLDER}")


def placeholder_problems(path: str, text: str) -> Iterator[Problem]:
    """Report any placeholder other than `{LogicalID}`."""
    rest = text.replace(PLACEHOLDER, "")
    if "{" in rest or "}" in rest:
        yield Problem(path=path, message=f"{text!r} has an unknown placeholder", hint=f"the only one is {PLACEHOLDER}")
