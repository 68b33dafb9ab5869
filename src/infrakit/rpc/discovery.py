"""Discovers daemons and plugins: one directory of unix sockets, each named after its plugin.

The environment variables and the layout are those of the original, so that each finds the other's plugins.
This module imports little, because every command loads it.
"""

import os
from pathlib import Path

import msgspec

from infrakit.spi.errors import Refused, Unreachable

HOME_VARIABLE = "INFRAKIT_HOME"
PLUGINS_DIR_VARIABLE = "INFRAKIT_PLUGINS_DIR"
SOCKET_PATH_BYTES_MAX = 107
MANAGER_SOCKET = "group"  # as in the original, the manager serves in place of the group plugin


def home() -> Path:
    """Return the directory of InfraKit's files on this machine: `$INFRAKIT_HOME`, or `~/.infrakit`."""
    configured = os.environ.get(HOME_VARIABLE)
    return Path(configured).expanduser() if configured else Path.home() / ".infrakit"


def plugins_directory() -> Path:
    """Return the directory of the sockets: `$INFRAKIT_PLUGINS_DIR`, or `plugins` in the home."""
    configured = os.environ.get(PLUGINS_DIR_VARIABLE)
    return Path(configured).expanduser() if configured else home() / "plugins"


def manager_socket() -> Path:
    """Return the socket at which the daemon serves the command line."""
    return plugins_directory() / MANAGER_SOCKET


class NotRunning(Unreachable):
    """No daemon answers at its address. Unlike `Unreachable` in general, which a daemon may also raise itself."""


class Found(msgspec.Struct, frozen=True):
    """A plugin that has a socket or an address file here. Whether it answers has not been checked."""

    name: str  # without a type: one socket may serve several
    address: str  # the path of a unix socket, or a URL


def found() -> list[Found]:
    """Return the plugins in the plugins directory, sorted by name. Each call reads the directory."""
    try:
        entries = sorted(plugins_directory().iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    sockets = [Found(path.name, str(path)) for path in entries if path.is_socket()]
    names = {each.name for each in sockets}
    elsewhere = [Found(p.stem, url) for p in entries if p.stem not in names and (url := _listed(p))]
    return sorted([*sockets, *elsewhere], key=lambda each: each.name)


def _listed(path: Path) -> str:
    """Return the URL in a file `NAME.listen` of a plugin on TCP: `tcp://HOST:PORT`, or `https://...`."""
    if path.suffix != ".listen" or not path.is_file():
        return ""
    try:
        url = path.read_text(errors="replace").strip()
    except OSError:
        return ""
    return url.replace("tcp://", "http://", 1).rstrip("/") + "/" if "://" in url else ""


def find(name: str) -> Found | None:
    """Return the plugin of that name, `lookup` or `lookup/type`, if it has a socket or an address file here."""
    lookup = name.partition("/")[0]
    return next((each for each in found() if each.name == lookup), None)


def check_length(path: Path | str) -> None:
    """Raise `Refused` for a path too long for a unix socket (unix(7): 108 bytes with the final zero)."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise Refused(
            f"{path} is too long for a unix socket: at most {SOCKET_PATH_BYTES_MAX} bytes",
            remedy=f"set {HOME_VARIABLE} or {PLUGINS_DIR_VARIABLE} to a shorter path",
        )
