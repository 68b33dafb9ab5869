"""Addresses of documents: display, resolution of relative addresses, and access rules for templates.

    path, file://PATH, -       this machine
    unix://SOCKET:PATH         an HTTP server at a unix socket of this machine; the socket ends before the first `:/`
    unix://PLUGIN/PATH         an HTTP server at the unix socket of a plugin, by the plugin's name
    http://, https://          the network
    s3://BUCKET/KEY            an object store, read with the credentials of the rendering process
    str://TEXT                 the text itself

The operator's own templates, on this machine, may refer to any address. Any other template is confined to the zone of
its origin, to prevent server-side request forgery: a template from the network cannot read this machine, one from https
cannot read http, one from a bucket cannot read another bucket, and one from a public address can access neither private
networks nor services of this machine. The metadata service of a cloud is refused to all templates, because it discloses
the credentials of the machine.
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
_SAFE_IN_PATHS = "/%?=&#~+@:!$,;()*'"
# Metadata services of clouds that do not use a link-local address.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Zone(enum.IntEnum):
    """The network zone of an address, from public to this machine. A higher zone is better protected."""

    PUBLIC = 0
    PRIVATE = 1
    LOCAL = 2


def display(address: str) -> str:
    """Return the address for messages, without password, query and fragment, which may contain secrets."""
    if address == STDIN:
        return "stdin"
    if "://" not in address:
        return address
    if address.startswith(LITERAL):
        return "inline text"
    url = split(address)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def split(address: str) -> urllib.parse.SplitResult:
    """Split a URL into its parts. Raises `Refused` if it is malformed."""
    try:
        return urllib.parse.urlsplit(address)
    except ValueError:
        # The message omits the address: secrets cannot be removed from a malformed one.
        raise Refused("malformed address", remedy="expected SCHEME://HOST[:PORT]/PATH") from None


def scheme(address: str) -> str:
    """Return the scheme in lower case, also if it is not one of `SCHEMES`; `file` for paths and standard input."""
    return address.partition("://")[0].lower() if "://" in address else "file"


def resolve(address: str, base: str) -> str:
    """Return the absolute form of `address`, which is relative to the document at `base`."""
    if "://" in address or address == STDIN or base in ("", STDIN):
        return address
    kind = scheme(base)
    if "://" not in base:
        return os.path.normpath(os.path.join(os.path.dirname(base), address))  # noqa: PTH118, PTH120
    if kind in ("http", "https", "file"):
        return urllib.parse.urljoin(base, urllib.parse.quote(address, safe=_SAFE_IN_PATHS))
    if kind == "unix":
        server, path = socket_and_path(base)
        return f"unix://{server}{_below_root(path, address)}"
    url = split(base)
    at = f"?{url.query}" if url.query and "?" not in address else ""  # the endpoint and the region
    return f"{kind}://{url.netloc}{_below_root(url.path, address)}{at}"


def socket_and_path(address: str) -> tuple[str, str]:
    """Split a `unix://` address into the server (`SOCKET:`, or a plugin's name) and the path of the request."""
    rest = address.partition("://")[2]
    if rest.startswith("/"):
        socket, colon, path = rest.partition(":/")
        return f"{socket}:", f"/{path}" if colon else "/"
    plugin, _, path = rest.partition("/")
    return plugin, f"/{path}"


def check_allowed(address: str, referrer: str) -> None:
    """Raise `Refused` unless a document at `referrer` may refer to the absolute `address`.

    The zones of hosts are checked later, when the connection is opened.
    """
    from_scheme, to_scheme = scheme(referrer), scheme(address)
    if to_scheme == "str" or from_scheme in ("file", "str"):
        return
    where = display(address)
    if to_scheme == "file":
        raise Refused(f"a template from {from_scheme}:// may not read files of this machine", where=where, remedy=TRUST)
    if to_scheme == "unix" and (from_scheme != "unix" or socket_and_path(address)[0] != socket_and_path(referrer)[0]):
        raise Refused(f"a template from {from_scheme}:// may not connect to this socket", where=where, remedy=TRUST)
    if to_scheme == "s3" and (from_scheme != "s3" or _bucket(address) != _bucket(referrer)):
        raise Refused(f"a template from {from_scheme}:// may not read this bucket", where=where, remedy=TRUST)
    if to_scheme == "http" and from_scheme == "https":
        raise Refused("a template from https:// may not refer to http://, which is not secure", where=where)


def zone_of(address: "ipaddress.IPv4Address | ipaddress.IPv6Address") -> Zone | None:
    """Return the zone of an IP address; None for metadata services, which disclose the machine's credentials."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return zone_of(inner)
    if address.is_link_local or address in _METADATA:
        return None
    if address.is_loopback or address.is_unspecified:
        return Zone.LOCAL
    return Zone.PUBLIC if address.is_global else Zone.PRIVATE


def zone_of_host(host: str) -> Zone | None:
    """Return the zone of a host without resolving it: a name other than `localhost` counts as public.

    None for metadata services of clouds.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return Zone.LOCAL
    if name == "metadata.google.internal":
        return None
    try:
        return zone_of(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return Zone.PUBLIC


def _bucket(address: str) -> tuple[str, str]:
    """Return the bucket and the query, which selects the server."""
    url = split(address)
    return url.netloc, url.query


def _below_root(path: str, address: str) -> str:
    """Resolve a relative path as browsers do: `..` does not lead above the root."""
    return posixpath.normpath("/" + posixpath.join(posixpath.dirname(path), address).lstrip("/"))
