"""A GET request with a total timeout and a check of the host, by HTTP, HTTPS, or HTTP at a unix socket.

urllib has timeouts per read only, and none for name resolution, so a slow server could block it indefinitely. The fetch
therefore runs in a thread that is abandoned at the timeout. The addresses of a host are checked when the connection is
opened, not before, because a name may resolve to another address later (DNS rebinding). The standard library suffices
here; this module is imported on the first fetch.
"""

import base64
import functools
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from infrakit.spi.errors import InfraKitError, NotFound, Refused, Throttled, Unreachable
from infrakit.template import addresses
from infrakit.template.addresses import Zone, display

_NOT_FOUND = (404, 410)
_RETRYABLE = (429, 502, 503, 504)  # HTTP status codes for which a retry may help
_REDIRECTS_MAX = 5


class Response(NamedTuple):
    """The response of a server."""

    body: bytes
    etag: str
    zone: Zone  # of the server
    unchanged: bool = False  # the server confirmed the entity tag; the body is empty


class Request(NamedTuple):
    """A request, and the zones that its server may be in."""

    address: str
    zone_max: Zone = Zone.LOCAL
    link_local: bool = True  # whether metadata services of clouds are allowed
    etag: str = ""
    bytes_max: int = 10_000_000
    tls: ssl.SSLContext | None = None
    socket_path: str = ""  # for `unix://`


def get(request: Request, timeout_s: float) -> Response:
    """Send the request. Raises `NotFound`, `Unreachable`, `Refused`, or `Throttled` if a retry may help."""
    outcome: list[Response | InfraKitError] = []

    def fetch() -> None:
        try:
            outcome.append(_fetch(request, timeout_s))
        except InfraKitError as error:
            outcome.append(error)

    thread = threading.Thread(target=fetch, name="fetch", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise _timed_out(request, timeout_s)
    if isinstance(outcome[0], InfraKitError):
        raise outcome[0]
    return outcome[0]


def _fetch(request: Request, timeout_s: float) -> Response:
    where = display(request.address)
    try:
        if request.socket_path:
            return _from_socket(request, timeout_s)
        return _from_host(request, timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.NOT_MODIFIED and request.etag:
                return Response(b"", request.etag, request.zone_max, unchanged=True)
            raise _status_error(error.code, error.reason, where) from None
    except TimeoutError:
        raise _timed_out(request, timeout_s) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _timed_out(request, timeout_s) from None
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
        raise Unreachable(f"cannot be fetched: {reason}", where=where) from None
    except http.client.InvalidURL:
        hint = "write a space as %20, and a port as a number"
        raise Unreachable("cannot be fetched: the address is malformed", where=where, remedy=hint) from None
    except OSError as error:
        through = f" through the socket {request.socket_path}" if request.socket_path else ""
        reason = error.strerror or type(error).__name__
        raise Unreachable(f"cannot be fetched{through}: {reason}", where=where) from None
    except (http.client.HTTPException, ValueError) as error:
        # The error's text is omitted: for a malformed address it repeats the address with its secrets.
        raise Unreachable(f"cannot be fetched: {type(error).__name__}", where=where) from None


def _timed_out(request: Request, timeout_s: float) -> Unreachable:
    return Unreachable(f"no complete answer in {timeout_s:.3g}s", where=display(request.address))


def _status_error(code: int, reason: str, where: str) -> InfraKitError:
    text = f"the server answered {code} {reason}".rstrip()
    if code in _RETRYABLE:
        return Throttled(text, after_s=0.0, where=where)
    return (NotFound if code in _NOT_FOUND else Refused)(text, where=where)


def _read(response: Any, request: Request, zone: Zone) -> Response:
    body = response.read(request.bytes_max + 1)
    if len(body) > request.bytes_max:
        raise Refused(f"has more than {request.bytes_max:,} bytes", where=display(request.address))
    if response.length:  # a read with a limit does not detect a truncated response
        raise Unreachable(f"the answer lacks its last {response.length:,} bytes", where=display(request.address))
    return Response(body, response.headers.get("ETag", ""), zone)


# -- hosts -------------------------------------------------------------------------------------------------------------


def _from_host(request: Request, timeout_s: float) -> Response:
    zones: list[Zone] = []
    connect = functools.partial(_connect_checked, request, zones)
    opener = urllib.request.OpenerDirector()  # not build_opener, which follows redirects to ftp and reads files
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _HTTPHandler(request, connect),
        _HTTPSHandler(request, connect),
        _RedirectHandler(request),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    url = addresses.split(request.address)
    user, at, host = url.netloc.rpartition("@")  # urllib does not support `user:password@`
    outgoing = urllib.request.Request(urllib.parse.urlunsplit((url.scheme, host, url.path, url.query, "")))  # noqa: S310
    if at:
        basic = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        outgoing.add_unredirected_header("Authorization", f"Basic {basic}")  # for this host only
    if request.etag:
        outgoing.add_header("If-None-Match", request.etag)
    with opener.open(outgoing, timeout=timeout_s) as response:
        return _read(response, request, max(zones, default=addresses.zone_of_host(url.hostname or "") or Zone.PUBLIC))


def _check(request: Request, zone: Zone | None, host: str) -> None:
    where = display(request.address)
    if zone is None and not request.link_local:
        raise Refused(f"{host} is the metadata service of a cloud, which templates may not access", where=where)
    if zone is not None and zone > request.zone_max:
        inside = "a service of this machine" if zone is Zone.LOCAL else "in a private network"
        raise Refused(f"{host} is {inside}, which a template from outside of it may not access", where=where)


def _connect_checked(
    request: Request, zones: list[Zone], address: tuple[str, int], timeout: Any = None, source_address: Any = None
) -> socket.socket:
    """Connect like `socket.create_connection`, to the allowed addresses of a host; append the zone to `zones`."""
    host, port = address
    refused: Refused | None = None
    failed: OSError | None = None
    for *_, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        number = str(found[0])
        zone = addresses.zone_of(ipaddress.ip_address(number.partition("%")[0]))
        try:
            _check(request, zone, host)
            connection = socket.create_connection((number, port), timeout, source_address)
        except Refused as error:
            refused = error
        except OSError as error:
            failed = error
        else:
            zones.append(Zone.LOCAL if zone is None else zone)
            return connection
    if refused is not None:
        raise refused
    raise failed or OSError(f"{host} has no address")


class _HTTPHandler(urllib.request.HTTPHandler):
    def __init__(self, request: Request, connect: Callable[..., socket.socket]) -> None:
        super().__init__()
        self._request = request
        self._connect = connect

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_checked_connections(http.client.HTTPConnection, self._request, self._connect, req), req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def __init__(self, request: Request, connect: Callable[..., socket.socket]) -> None:
        super().__init__(context=request.tls)
        self._request = request
        self._connect = connect

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        create = _checked_connections(http.client.HTTPSConnection, self._request, self._connect, req)
        return self.do_open(create, req, context=self._request.tls)


def _checked_connections(
    kind: Any, request: Request, connect: Callable[..., socket.socket], req: urllib.request.Request
) -> Any:
    """Return a factory of connections of class `kind` that check the address of the host.

    Behind a proxy, which resolves names itself, only the name is checked.
    """
    target = urllib.parse.urlsplit(req.full_url).hostname or ""
    proxied = req.has_proxy() or bool(getattr(req, "_tunnel_host", None))
    if proxied:
        _check(request, addresses.zone_of_host(target), target)

    def create(*args: Any, **kwargs: Any) -> Any:
        connection = kind(*args, **kwargs)
        if not proxied:
            connection._create_connection = connect  # noqa: SLF001 - the only hook of http.client
        return connection

    return create


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows up to five redirects, to http and https only, and never from https to http."""

    max_redirections = _REDIRECTS_MAX

    def __init__(self, request: Request) -> None:
        self._request = request

    def redirect_request(  # noqa: PLR0917 - the signature of urllib
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = addresses.scheme(req.full_url), addresses.scheme(newurl)
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


# -- sockets -----------------------------------------------------------------------------------------------------------


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _from_socket(request: Request, timeout_s: float) -> Response:
    where = display(request.address)
    path = addresses.socket_and_path(request.address)[1]
    headers: Mapping[str, str] = {"If-None-Match": request.etag} if request.etag else {}
    connection = _SocketConnection(request.socket_path, timeout_s)
    try:
        connection.request("GET", urllib.parse.quote(path, safe="/%?=&~+@:!$,;()*'"), headers=headers)
        response = connection.getresponse()
        if response.status == http.HTTPStatus.NOT_MODIFIED and request.etag:
            return Response(b"", request.etag, Zone.LOCAL, unchanged=True)
        if not 200 <= response.status < 300:
            raise _status_error(response.status, response.reason, where)
        return _read(response, request, Zone.LOCAL)
    finally:
        connection.close()
