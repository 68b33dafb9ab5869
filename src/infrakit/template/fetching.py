"""One GET with a deadline for the whole, to a host that may be asked, by HTTP, HTTPS or HTTP on a unix socket.

urllib has only timeouts per read, and none for name resolution, so a server that sends a byte now and then would block
for ever: the fetch runs in a thread that is abandoned at its timeout. The addresses of a host are checked when the
connection is opened, not before, because a name may resolve to another address later. The standard library is enough
here, and is imported only for a fetch.
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
from infrakit.template.addresses import Reach, display

_GONE = (404, 410)
_BUSY = (429, 502, 503, 504)  # asking again may help
_PASSED_ON_MAX = 5


class Answer(NamedTuple):
    """What a server gave."""

    body: bytes
    etag: str
    reach: Reach  # of the server
    unchanged: bool = False  # what the entity tag stood for is still so; there is no body


class Request(NamedTuple):
    """What is asked, and how far inside the server may be."""

    address: str
    reach_max: Reach = Reach.MACHINE
    link_local: bool = True  # whether the metadata service of a cloud may be asked
    etag: str = ""
    bytes_max: int = 10_000_000
    tls: ssl.SSLContext | None = None
    socket_path: str = ""  # of `unix://`


def get(request: Request, timeout_s: float) -> Answer:
    """Raises `NotFound`, `Unreachable`, `Refused`, or `Throttled` when asking again may help."""
    outcome: list[Answer | InfraKitError] = []

    def fetch() -> None:
        try:
            outcome.append(_fetch(request, timeout_s))
        except InfraKitError as error:
            outcome.append(error)

    thread = threading.Thread(target=fetch, name="fetch", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise _late(request, timeout_s)
    if isinstance(outcome[0], InfraKitError):
        raise outcome[0]
    return outcome[0]


def _fetch(request: Request, timeout_s: float) -> Answer:
    where = display(request.address)
    try:
        if request.socket_path:
            return _from_socket(request, timeout_s)
        return _from_host(request, timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.NOT_MODIFIED and request.etag:
                return Answer(b"", request.etag, request.reach_max, unchanged=True)
            raise _failed(error.code, error.reason, where) from None
    except TimeoutError:
        raise _late(request, timeout_s) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _late(request, timeout_s) from None
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
        # Not the error's text: for a malformed address it repeats the address with what it hides.
        raise Unreachable(f"cannot be fetched: {type(error).__name__}", where=where) from None


def _late(request: Request, timeout_s: float) -> Unreachable:
    return Unreachable(f"no complete answer in {timeout_s:.3g}s", where=display(request.address))


def _failed(code: int, reason: str, where: str) -> InfraKitError:
    text = f"the server answered {code} {reason}".rstrip()
    if code in _BUSY:
        return Throttled(text, after_s=0.0, where=where)
    return (NotFound if code in _GONE else Refused)(text, where=where)


def _read(response: Any, request: Request, reach: Reach) -> Answer:
    body = response.read(request.bytes_max + 1)
    if len(body) > request.bytes_max:
        raise Refused(f"has more than {request.bytes_max:,} bytes", where=display(request.address))
    if response.length:  # a bounded read does not notice that the server went away early
        raise Unreachable(f"the answer lacks its last {response.length:,} bytes", where=display(request.address))
    return Answer(body, response.headers.get("ETag", ""), reach)


# -- hosts -------------------------------------------------------------------------------------------------------------


def _from_host(request: Request, timeout_s: float) -> Answer:
    seen: list[Reach] = []
    guard = functools.partial(_connect, request, seen)
    opener = urllib.request.OpenerDirector()  # not build_opener: it would follow a redirect to ftp, and read files
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _Plain(request, guard),
        _Secure(request, guard),
        _Redirects(request),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    url = addresses.split(request.address)
    user, at, host = url.netloc.rpartition("@")  # urllib knows no `user:password@`
    plain = urllib.request.Request(urllib.parse.urlunsplit((url.scheme, host, url.path, url.query, "")))  # noqa: S310
    if at:
        basic = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        plain.add_unredirected_header("Authorization", f"Basic {basic}")  # for this host only
    if request.etag:
        plain.add_header("If-None-Match", request.etag)
    with opener.open(plain, timeout=timeout_s) as response:
        return _read(response, request, max(seen, default=addresses.named_reach(url.hostname or "") or Reach.WORLD))


def _check(request: Request, reach: Reach | None, host: str) -> None:
    where = display(request.address)
    if reach is None and not request.link_local:
        raise Refused(f"{host} is the metadata service of a cloud, which templates may not ask", where=where)
    if reach is not None and reach > request.reach_max:
        inside = "a service of this machine" if reach is Reach.MACHINE else "in a private network"
        raise Refused(f"{host} is {inside}, which a template from outside of it may not ask", where=where)


def _connect(
    request: Request, seen: list[Reach], address: tuple[str, int], timeout: Any = None, source_address: Any = None
) -> socket.socket:
    """`socket.create_connection`, to those of a host's addresses that may be asked."""
    host, port = address
    refused: Refused | None = None
    failed: OSError | None = None
    for *_, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        number = str(found[0])
        reach = addresses.reach_of(ipaddress.ip_address(number.partition("%")[0]))
        try:
            _check(request, reach, host)
            connection = socket.create_connection((number, port), timeout, source_address)
        except Refused as error:
            refused = error
        except OSError as error:
            failed = error
        else:
            seen.append(Reach.MACHINE if reach is None else reach)
            return connection
    if refused is not None:
        raise refused
    raise failed or OSError(f"{host} has no address")


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, request: Request, guard: Callable[..., socket.socket]) -> None:
        super().__init__()
        self._request = request
        self._guard = guard

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_guarded(http.client.HTTPConnection, self._request, self._guard, req), req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, request: Request, guard: Callable[..., socket.socket]) -> None:
        super().__init__(context=request.tls)
        self._request = request
        self._guard = guard

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        made = _guarded(http.client.HTTPSConnection, self._request, self._guard, req)
        return self.do_open(made, req, context=self._request.tls)


def _guarded(kind: Any, request: Request, guard: Callable[..., socket.socket], req: urllib.request.Request) -> Any:
    """Connections of that kind that check their peer address; through a proxy, which resolves names, by name only."""
    target = urllib.parse.urlsplit(req.full_url).hostname or ""
    proxied = req.has_proxy() or bool(getattr(req, "_tunnel_host", None))
    if proxied:
        _check(request, addresses.named_reach(target), target)

    def made(*args: Any, **kwargs: Any) -> Any:
        connection = kind(*args, **kwargs)
        if not proxied:
            connection._create_connection = guard  # noqa: SLF001 - the one seam that http.client has
        return connection

    return made


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few, to http and https only, and never from https to http."""

    max_redirections = _PASSED_ON_MAX

    def __init__(self, request: Request) -> None:
        self._request = request

    def redirect_request(  # noqa: PLR0917 - as it is called
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


def _from_socket(request: Request, timeout_s: float) -> Answer:
    where = display(request.address)
    path = addresses.socket_and_path(request.address)[1]
    headers: Mapping[str, str] = {"If-None-Match": request.etag} if request.etag else {}
    connection = _SocketConnection(request.socket_path, timeout_s)
    try:
        connection.request("GET", urllib.parse.quote(path, safe="/%?=&~+@:!$,;()*'"), headers=headers)
        response = connection.getresponse()
        if response.status == http.HTTPStatus.NOT_MODIFIED and request.etag:
            return Answer(b"", request.etag, Reach.MACHINE, unchanged=True)
        if not 200 <= response.status < 300:
            raise _failed(response.status, response.reason, where)
        return _read(response, request, Reach.MACHINE)
    finally:
        connection.close()
