"""Parses addresses in the formats of users and of the original: unix sockets, URLs, and files that contain one."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from infrakit.spi.errors import InvalidSpec, Refused, invalid

LISTEN = ".listen"  # suffix of a file that contains the URL of a plugin on TCP


def parse(text: str) -> Path | str:
    """Return the path of a unix socket, or an http or https URL with host and port. Raises `InvalidSpec`.

    A bare path, `unix://` and `file://` name a socket; `tcp://` is plain HTTP; a path that ends in `.listen` names a
    file that contains one of these.
    """
    if "://" not in text:
        return _file(text) if text.endswith(LISTEN) else Path(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _wrong(text) from None
    if parts.scheme in ("unix", "file") and parts.path:
        return Path(unquote(parts.netloc + parts.path))
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname or parts.username or parts.query:
        raise _wrong(text)
    if port is None and parts.scheme == "tcp":
        raise _wrong(text)
    return parts._replace(scheme="http" if parts.scheme == "tcp" else parts.scheme).geturl()


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback address."""
    if host == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _file(name: str) -> Path | str:
    try:
        text = Path(name).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the address in it cannot be read: {error}", where=name) from None
    if "://" not in text:  # another file is not allowed, so that no file can refer to itself
        raise _wrong(text, where=name)
    return parse(text)


def _wrong(text: str, *, where: str = "") -> InvalidSpec:
    before, at, after = text.rpartition("@")  # a password may precede it
    shown = f"{before.partition('://')[0]}://...@{after}" if at else text
    hint = "write a path, unix:///PATH, tcp://HOST:PORT, or https://HOST:PORT"
    return invalid(where, f"{shown!r} is not an address", hint=hint)
