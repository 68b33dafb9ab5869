"""Every fetch of a document by its address: a path, `-` for standard input, or a URL (http, https, file).

One place, because each fetch needs the same care: a limit on the size, a deadline for the whole, and an address in
messages that shows no password and no token. urllib knows only deadlines per read, and none for looking up a name, so
that a server which sends a byte now and then would hold us for ever: the fetch runs in a thread that is left behind
when its time is up. The standard library is enough here, and is imported only for a URL.
"""

import os
import sys
import threading
import urllib.parse
from pathlib import Path

import msgspec

from infrakit.spi.errors import InfraKitError, InvalidSpec, NotFound, Problem, Refused, Unreachable

BYTES_MAX = 10_000_000
TEMPLATE_BYTES_MAX = 1_000_000
TIMEOUT_S = 30.0
STDIN = "-"
LITERAL = "str://"


class Source(msgspec.Struct, frozen=True):
    """The text of a template and the absolute address it stands at; none for text that came without one."""

    address: str
    text: str


class Loader:
    """Fetches templates, by addresses that may be relative to the document that names them."""

    def fetch(self, address: str, *, base: str = "") -> Source:
        """The template at `address`. Raises `NotFound`, `Unreachable`, `Refused`, `InvalidSpec` if it is no text."""
        absolute = resolve(address, base)
        if absolute.startswith(LITERAL):
            return Source(base, absolute.removeprefix(LITERAL))
        return Source(absolute, decoded(load(absolute), display(absolute)))

    def inline(self, text: str, *, base: str = "") -> Source:
        """Text that is at hand, as if it stood at `base`."""
        return Source(base, text)


def resolve(address: str, base: str) -> str:
    """The absolute address of what a document at `base` calls `address`."""
    if "://" in address or not base or STDIN in (base, address):
        return address
    if "://" in base:
        return urllib.parse.urljoin(base, urllib.parse.quote(address, safe="/%?=&#~+@:!$,;()*'"))
    return os.path.normpath(os.path.join(os.path.dirname(base), address))  # noqa: PTH118, PTH120


def decoded(body: bytes, where: str) -> str:
    """Text of bytes. Raises `InvalidSpec` when they are none."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"not UTF-8: found the byte 0x{body[error.start]:02x}"
        line = body.count(b"\n", 0, error.start) + 1
        problem = Problem(path="", message=found, line=line, hint="save the document as UTF-8")
        raise InvalidSpec([problem], where=where) from None


def load(address: str, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """The document's bytes. Raises `NotFound`, `Unreachable` or `Refused`; the error names the address."""
    if address == STDIN:
        return _limited(sys.stdin.buffer.read(BYTES_MAX + 1), STDIN)
    if "://" not in address:
        return _file(Path(address), address)
    url = _split(address)
    if url.scheme == "file":
        if url.netloc not in ("", "localhost"):
            raise Refused(f"file on the host {url.netloc!r}, expected file:///PATH", where=display(address))
        return _file(Path(urllib.parse.unquote(url.path)), address)
    if url.scheme in ("http", "https"):
        return _fetch_in_time(address, timeout_s)
    raise Refused(
        "unknown kind of address", where=display(address), remedy="use a path, -, file://, http:// or https://"
    )


def display(address: str) -> str:
    """The address as messages may show it: without password, query and fragment, where secrets travel."""
    if address == STDIN:
        return "stdin"
    if "://" not in address:
        return address
    url = _split(address)
    return urllib.parse.urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))


def _split(address: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(address)
    except ValueError:
        # Without the address: what cannot be parsed cannot be cleared of secrets.
        raise Refused("malformed address", remedy="expected SCHEME://HOST[:PORT]/PATH") from None


def _file(path: Path, address: str) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file.read(BYTES_MAX + 1), address)
    except FileNotFoundError:
        raise NotFound("no such file", where=display(address)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(f"cannot be read: {reason}", where=display(address)) from None


def _limited(body: bytes, address: str) -> bytes:
    if len(body) > BYTES_MAX:
        raise Refused(f"has more than {BYTES_MAX:,} bytes", where=display(address))
    return body


def _fetch_in_time(address: str, timeout_s: float) -> bytes:
    outcome: list[bytes | InfraKitError] = []

    def fetch() -> None:
        try:
            outcome.append(_fetch(address, timeout_s))
        except InfraKitError as error:
            outcome.append(error)

    thread = threading.Thread(target=fetch, name="fetch", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        raise Unreachable(f"no complete answer in {timeout_s:g}s", where=display(address))
    if isinstance(outcome[0], InfraKitError):
        raise outcome[0]
    return outcome[0]


def _fetch(address: str, timeout_s: float) -> bytes:
    import http.client
    import urllib.error
    import urllib.request

    opener = urllib.request.OpenerDirector()  # not build_opener: it would follow a redirect to ftp, and read files
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    where = display(address)
    plain, headers = _without_user(address)
    try:
        with opener.open(urllib.request.Request(plain, headers=headers), timeout=timeout_s) as response:  # noqa: S310
            body = _limited(response.read(BYTES_MAX + 1), address)
            if response.length:  # a bounded read does not notice that the server went away early
                raise Unreachable(f"the answer lacks its last {response.length:,} bytes", where=where)
            return body
    except urllib.error.HTTPError as error:
        with error:
            kind = NotFound if error.code in (404, 410) else Refused
            raise kind(f"the server answered {error.code} {error.reason}".rstrip(), where=where) from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
        raise Unreachable(f"cannot be fetched: {reason}", where=where) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Not the error's text: for a malformed address it repeats the address with what it hides.
        raise Unreachable(f"cannot be fetched: {type(error).__name__}", where=where) from None


def _without_user(address: str) -> tuple[str, dict[str, str]]:
    """urllib knows no `user:password@` in an address: they go into the header that they stand for."""
    import base64

    url = _split(address)
    user, at, host = url.netloc.rpartition("@")
    plain = urllib.parse.urlunsplit((url.scheme, host, url.path, url.query, ""))
    basic = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    return plain, {"Authorization": f"Basic {basic}"} if at else {}
