"""Addresses of documents: their display, the resolution of relative ones, and which templates may name which.

    path, file://PATH, -       this machine
    unix://SOCKET:PATH         an HTTP server on a unix socket of this machine; the socket ends before the first `:/`
    unix://PLUGIN/PATH         the same, by the name of a plugin
    http://, https://          the network
    s3://BUCKET/KEY            an object store, read with the credentials of the rendering process
    str://TEXT                 the text itself

The operator's own templates, on this machine, may name any address. A template from elsewhere may not reach further
inside than its origin: from the network nothing on this machine, from https no http, from a bucket no other bucket, and
from a public address no private network and no service of this machine. Addresses of a cloud's metadata service are
refused to all templates, because they disclose the credentials of the machine.
"""

import enum
import ipaddress
import os
import posixpath
import urllib.parse

from infrakit.spi.errors import Refused

STDIN = "-"
LITERAL = "str://"
SCHEMES = ("file", "http", "https", "unix", "s3", "str")
TRUST = "fetch it to a file and review it first, or trust it: on the command line, --trust"
_KEPT_IN_PATHS = "/%?=&#~+@:!$,;()*'"
# Link-local addresses are found by their range; these serve the same purpose elsewhere.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Reach(enum.IntEnum):
    """How far inside the network an address is."""

    WORLD = 0
    PRIVATE = 1
    MACHINE = 2


def display(address: str) -> str:
    """The address as messages may show it: without password, query and fragment, where secrets travel."""
    if address == STDIN:
        return "stdin"
    if "://" not in address:
        return address
    if address.startswith(LITERAL):
        return "inline text"
    url = split(address)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def split(address: str) -> urllib.parse.SplitResult:
    """The parts of a URL. Raises `Refused`."""
    try:
        return urllib.parse.urlsplit(address)
    except ValueError:
        # Without the address: what cannot be parsed cannot be cleared of secrets.
        raise Refused("malformed address", remedy="expected SCHEME://HOST[:PORT]/PATH") from None


def scheme(address: str) -> str:
    """One of `SCHEMES`, or what stands there instead; `file` for paths and standard input."""
    return address.partition("://")[0].lower() if "://" in address else "file"


def resolve(address: str, base: str) -> str:
    """The absolute address of what a document at `base` calls `address`."""
    if "://" in address or address == STDIN or base in ("", STDIN):
        return address
    kind = scheme(base)
    if "://" not in base:
        return os.path.normpath(os.path.join(os.path.dirname(base), address))  # noqa: PTH118, PTH120
    if kind in ("http", "https", "file"):
        return urllib.parse.urljoin(base, urllib.parse.quote(address, safe=_KEPT_IN_PATHS))
    if kind == "unix":
        server, path = socket_and_path(base)
        return f"unix://{server}{_below_root(path, address)}"
    url = split(base)
    at = f"?{url.query}" if url.query and "?" not in address else ""  # which endpoint, and region
    return f"{kind}://{url.netloc}{_below_root(url.path, address)}{at}"


def socket_and_path(address: str) -> tuple[str, str]:
    """Of `unix://`: the socket with its colon, or a plugin's name, and the path of the request."""
    rest = address.partition("://")[2]
    if rest.startswith("/"):
        socket, colon, path = rest.partition(":/")
        return f"{socket}:", f"/{path}" if colon else "/"
    plugin, _, path = rest.partition("/")
    return plugin, f"/{path}"


def allow(address: str, namer: str) -> None:
    """Raise `Refused` unless a document at `namer` may name the absolute `address`; hosts are checked later."""
    ours, theirs = scheme(namer), scheme(address)
    if theirs == "str" or ours in ("file", "str"):
        return
    where = display(address)
    if theirs == "file":
        raise Refused(f"a template from {ours}:// may not read files of this machine", where=where, remedy=TRUST)
    if theirs == "unix" and (ours != "unix" or socket_and_path(address)[0] != socket_and_path(namer)[0]):
        raise Refused(f"a template from {ours}:// may not ask this socket", where=where, remedy=TRUST)
    if theirs == "s3" and (ours != "s3" or _bucket(address) != _bucket(namer)):
        raise Refused(f"a template from {ours}:// may not read this bucket", where=where, remedy=TRUST)
    if theirs == "http" and ours == "https":
        raise Refused("a template from https:// may not name one over http://, which is not secure", where=where)


def reach_of(address: "ipaddress.IPv4Address | ipaddress.IPv6Address") -> Reach | None:
    """How far inside; None for addresses that give away the machine's credentials."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return reach_of(inner)
    if address.is_link_local or address in _METADATA:
        return None
    if address.is_loopback or address.is_unspecified:
        return Reach.MACHINE
    return Reach.WORLD if address.is_global else Reach.PRIVATE


def named_reach(host: str) -> Reach | None:
    """The same of a host as it is written: what is not a number is the world's, but for `localhost`."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return Reach.MACHINE
    if name == "metadata.google.internal":
        return None
    try:
        return reach_of(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return Reach.WORLD


def _bucket(address: str) -> tuple[str, str]:
    """A bucket, and the server that it is asked of."""
    url = split(address)
    return url.netloc, url.query


def _below_root(path: str, address: str) -> str:
    """Like a browser: `..` ends at the root."""
    return posixpath.normpath("/" + posixpath.join(posixpath.dirname(path), address).lstrip("/"))
