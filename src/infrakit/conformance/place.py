"""Finds the plugin that a user names: NAME, NAME/TYPE, a socket, an address, or a file that contains one."""

import stat
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from infrakit.rpc import address as addresses
from infrakit.rpc import discovery
from infrakit.spi.errors import NotFound


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a plugin, and its name in requests: `lookup`, or `lookup/type`."""

    address: str
    name: str


def find(text: str) -> Place:
    """Find a plugin, first by the name of a running one; `SOCKET/TYPE` works too. Raises `NotFound`, `Refused`."""
    running = discovery.find(text)
    if running is not None:
        return Place(address=running.address, name=text)
    if "://" in text:
        place = addresses.parse(text)
        return Place(address=text, name=place.name if isinstance(place, Path) else _name(place))
    path = Path(text)
    for endpoint in (path, *path.parents):
        if _is_endpoint(endpoint):
            type_ = path.relative_to(endpoint)
            name = endpoint.name.removesuffix(addresses.LISTEN)
            return Place(address=str(endpoint), name=name if type_ == Path() else f"{name}/{type_}")
    raise NotFound(f"no plugin {text} runs here", remedy="see: infrakit plugin ls, infrakit plugin start")


def _name(url: str) -> str:
    """Return the last part of the URL's path, which names the plugin behind a proxy; else the host."""
    parts = urlsplit(url)
    return parts.path.strip("/").rpartition("/")[2] or parts.hostname or ""


def _is_endpoint(path: Path) -> bool:
    """Whether the path is a socket, or a file that contains an address."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or (stat.S_ISREG(mode) and path.suffix == addresses.LISTEN)
