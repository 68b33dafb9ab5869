"""Where the plugin is that somebody named: NAME, NAME/TYPE, a socket, an address, or a file that holds one."""

import stat
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from infrakit.rpc import address as addresses
from infrakit.rpc import discovery
from infrakit.spi.errors import NotFound


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is what the plugin is asked under: `lookup`, or `lookup/type`."""

    address: str
    name: str


def find(text: str) -> Place:
    """What runs under a name comes first. `SOCKET/TYPE` is understood too. Raises `NotFound`, `Refused`."""
    running = discovery.find(text)
    if running is not None:
        return Place(address=running.address, name=text)
    if "://" in text:
        place = addresses.parse(text)
        return Place(address=text, name=place.name if isinstance(place, Path) else _name(place))
    path = Path(text)
    for held in (path, *path.parents):
        if _holds(held):
            type_ = path.relative_to(held)
            name = held.name.removesuffix(addresses.LISTEN)
            return Place(address=str(held), name=name if type_ == Path() else f"{name}/{type_}")
    raise NotFound(f"no plugin {text} runs here", remedy="see: infrakit plugin ls, infrakit plugin start")


def _name(url: str) -> str:
    """The last part of the path, under which a proxy of several has it; else the host."""
    parts = urlsplit(url)
    return parts.path.strip("/").rpartition("/")[2] or parts.hostname or ""


def _holds(path: Path) -> bool:
    """Whether a plugin can be there: a socket, or a file that holds an address."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or (stat.S_ISREG(mode) and path.suffix == addresses.LISTEN)
