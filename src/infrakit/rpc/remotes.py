"""Remotes: named daemons at other addresses, and the credentials for them.

Most are on other machines. A remote at a unix socket is on this machine, outside of its plugins directory, for example
in a container that shares the socket's directory. A unix socket needs no credentials beyond its file permissions.

Remotes are stored in `$INFRAKIT_HOME/remotes.json`. Keys and tokens are stored as the names of their files, never as
copies. This module imports little, because every command loads it.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from infrakit.rpc import address, discovery
from infrakit.spi import codec, files
from infrakit.spi.errors import NotFound, Refused, invalid
from infrakit.spi.values import wire_name

HOST_VARIABLE = "INFRAKIT_HOST"  # the remote of a command, or its URL; overrides the current one
LOCAL = "local"
SOCKET = "unix://"
# Credentials for plugins on other machines that are not remotes.
CA_VARIABLE = "INFRAKIT_TLS_CA"
CERT_VARIABLE = "INFRAKIT_TLS_CERT"
KEY_VARIABLE = "INFRAKIT_TLS_KEY"
TOKEN_VARIABLE = "INFRAKIT_TOKEN_FILE"  # noqa: S105 - the name of a file


class Remote(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name, omit_defaults=True):
    """A daemon at another address. `ca` authenticates it; `cert` and `key`, or `token_file`, authenticate us."""

    name: str = ""
    url: str
    ca: str = ""
    cert: str = ""
    key: str = ""
    token_file: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.url})" if self.name else self.url

    def token(self) -> str:
        """Return the token, empty if there is none. Raises `Refused` if it is missing, or would be sent in clear."""
        if not self.token_file:
            return ""
        check(self)
        try:
            token = Path(self.token_file).read_text().strip()
        except OSError as error:
            raise Refused(f"the token cannot be read: {error.strerror}", where=self.token_file) from None
        except UnicodeDecodeError:
            token = ""
        if not token.isascii() or not token.isprintable() or not token:
            raise Refused("the file holds no token", where=self.token_file, remedy="create one: infrakit remote token")
        return token


class Remotes(msgspec.Struct, kw_only=True, rename=wire_name):
    """All known remotes, and the current one."""

    current: str = LOCAL
    known: dict[str, Remote] = {}


def plugin(url: str) -> Remote:
    """Return the remote for a plugin's URL. Raises `Refused`.

    Its credentials are those of the known remote with this URL, else those in the environment that may be sent to it.
    """
    known = next((each for each in load().known.values() if each.url == url), None)
    if known is not None:
        return known
    ca, cert, key, token = (
        os.environ.get(name, "") for name in (CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, TOKEN_VARIABLE)
    )
    if urlsplit(url).scheme == "https":
        return Remote(url=url, ca=ca, cert=cert, key=key, token_file=token)
    return Remote(url=url, token_file=token if _is_private(url) else "")


def check_url(url: str) -> str:
    """Return the complete URL: `https://host:port` or `unix:///path`. Raises `InvalidSpec`."""
    place = address.parse(url if "://" in url else f"https://{url}")
    if isinstance(place, Path):
        if place.is_absolute():
            return f"{SOCKET}{place}"
    elif urlsplit(place).port is not None:
        return place
    raise invalid("", f"{url!r} is not an address of a daemon", hint="write it as https://HOST:PORT, or unix:///PATH")


def check(remote: Remote) -> None:
    """Raise `Refused` for settings that cannot work, or that would disclose a secret."""
    if remote.key and not remote.cert:
        raise Refused("a key needs its certificate", remedy="pass --cert too")
    if urlsplit(remote.url).scheme == "https":
        return
    if remote.url.startswith(SOCKET) and (remote.ca or remote.cert or remote.token_file):
        raise Refused("a unix socket needs no credentials", where=remote.url, remedy="leave the files out")
    if remote.ca or remote.cert:
        raise Refused(
            "certificates need TLS, and the URL is plain HTTP", where=remote.url, remedy="write https://HOST:PORT"
        )
    if remote.token_file and not _is_private(remote.url):
        raise Refused("a token over plain HTTP could be intercepted", where=remote.url, remedy="use https://")


def load() -> Remotes:
    """Read the remotes. Raises `Refused` if the file is damaged."""
    try:
        return codec.decode(_path().read_bytes(), Remotes)
    except (FileNotFoundError, NotADirectoryError):  # a missing home is reported where it is needed
        return Remotes()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(f"it cannot be read: {error}", where=str(_path()), remedy="fix or remove it") from None


def save(remotes: Remotes) -> None:
    """Replace the file atomically, readable by its owner only."""
    path = _path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(path, msgspec.json.format(msgspec.json.encode(remotes), indent=2) + b"\n")


def current() -> Remote | Path | None:
    """Return the current remote: `$INFRAKIT_HOST`, else the selected one. None: the daemon of this machine.

    Raises `Refused`, `NotFound`.
    """
    remotes = load()
    name = os.environ.get(HOST_VARIABLE) or remotes.current
    if name in ("", LOCAL):
        return None
    if "://" in name:
        return _at(plugin(check_url(name)))
    if name not in remotes.known:
        known = ", ".join(sorted(remotes.known)) or "none"
        raise NotFound(f"there is no remote {name!r}", remedy=f"known: {known}; infrakit remote use {LOCAL}")
    return _at(msgspec.structs.replace(remotes.known[name], name=name))


def _at(remote: Remote) -> Remote | Path:
    """Return the path of a remote at a unix socket, else the remote."""
    place = address.parse(remote.url)
    return place if isinstance(place, Path) else remote


def _is_private(url: str) -> bool:
    """Whether the traffic cannot be intercepted: TLS or loopback."""
    parts = urlsplit(url)
    return parts.scheme == "https" or address.is_loopback(parts.hostname or "")


def _path() -> Path:
    return discovery.home() / "remotes.json"
