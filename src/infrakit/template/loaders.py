"""Fetches documents by address: a path, `-` for standard input, or a URL.

All fetches are in this module, because all have the same requirements: a limit on the size, a total timeout, a check
that the referrer may read the address, and no password or token in messages. `load` fetches one document whose address
the operator has typed. A `Loader` fetches templates: it retries, caches, revalidates cached documents by their entity
tags, and confines untrusted templates as `addresses` describes.
"""

import functools
import sys
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from infrakit.spi import extras
from infrakit.spi.clock import Clock, SystemClock
from infrakit.spi.errors import InvalidSpec, NotFound, Problem, Refused, Throttled, Unreachable
from infrakit.template import addresses
from infrakit.template.addresses import LITERAL, STDIN, Zone, display, resolve

if TYPE_CHECKING:
    import ssl

    from infrakit.template.fetching import Response

BYTES_MAX = 10_000_000
TEMPLATE_BYTES_MAX = 1_000_000
TIMEOUT_S = 30.0
FRESH_S = 5.0  # how long a cached document is used without revalidation
ATTEMPTS = 3
_PAUSE_S = 0.2  # before the second attempt; doubles
_CACHE_ENTRIES_MAX = 256
_CACHE_BYTES_MAX = 10_000_000
_SETTLED_S = 2.0  # a file modified more recently may change again within the resolution of its time stamp

# (address, timeout_s) -> content; raises `NotFound`, `Refused`, `Unreachable`, `Throttled`
Fetcher = Callable[[str, float], bytes]

__all__ = ["BYTES_MAX", "STDIN", "Fetcher", "Loader", "Source", "display", "load", "resolve"]


def load(address: str, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """Return a document's content. Raises `NotFound`, `Unreachable` or `Refused`, with the address."""
    if address == STDIN:
        return _limited(sys.stdin.buffer.read(BYTES_MAX + 1), STDIN, BYTES_MAX)
    kind = addresses.scheme(address)
    if kind == "file":
        return _file(_path(address), address, BYTES_MAX)
    if kind in ("http", "https"):
        from infrakit.template import fetching

        try:
            return fetching.get(fetching.Request(address, bytes_max=BYTES_MAX), timeout_s).body
        except Throttled as error:
            raise Refused(error.what, where=error.where) from None
    raise Refused(
        "unknown kind of address", where=display(address), remedy="use a path, -, file://, http:// or https://"
    )


class Source(msgspec.Struct, frozen=True):
    """The text of a template and its absolute address, which is empty for inline text without one."""

    address: str
    text: str
    zone: Zone | None = None  # of the server that sent it; None: known by its address only


class _CacheEntry(NamedTuple):
    source: Source
    stamp: tuple[int, ...] | str  # of a file: modification time, size, inode, device; else the entity tag
    validated_at: float


class Loader:
    """Fetches templates, by addresses that may be relative to the document that refers to them. Thread-safe.

    `fetchers` serve schemes that need a separate client (`s3`); `sockets` returns the socket of a plugin by name.
    `trusts_network` lifts every restriction on the addresses in untrusted templates, `link_local` that on metadata
    services of clouds. `tls` replaces the CAs that the machine trusts.
    """

    def __init__(
        self,
        *,
        trusts_network: bool = False,
        link_local: bool = False,
        fetchers: Mapping[str, Fetcher] | None = None,
        sockets: Callable[[str], Path] | None = None,
        tls: "ssl.SSLContext | None" = None,
        timeout_s: float = TIMEOUT_S,
        fresh_s: float = FRESH_S,
        attempts: int = ATTEMPTS,
        bytes_max: int = TEMPLATE_BYTES_MAX,
        clock: Clock | None = None,
    ) -> None:
        self._trusts_network = trusts_network
        self._link_local = link_local
        self._fetchers = dict(fetchers or {})
        self._sockets = sockets
        self._tls = tls
        self._timeout_s = timeout_s
        self._fresh_s = fresh_s
        self._attempts = attempts
        self._bytes_max = bytes_max
        self._clock: Clock = clock or SystemClock()
        self._cache: OrderedDict[str, _CacheEntry] = OrderedDict()
        self._cache_bytes = 0
        self._lock = threading.Lock()

    def inline(self, text: str, *, base: str = "") -> Source:
        """Return inline text as a source whose address is `base`."""
        return Source(base, text)

    def is_trusted(self, source: Source) -> bool:
        """Whether a template has the permissions of the operator: it is local, or `trusts_network` is set."""
        return self._trusts_network or addresses.scheme(source.address) in ("file", "str")

    def fetch(
        self,
        address: str,
        *,
        base: str = "",
        referrer: Source | None = None,
        local_files: bool = True,
        timeout_s: float | None = None,
    ) -> Source:
        """Fetch the template at `address`, which is relative to `base`, or to the template `referrer` that contains it.

        Raises `NotFound`, `Unreachable`, `Refused`, also if the referrer may not read it; `InvalidSpec` if it is not
        UTF-8 text.
        """
        absolute = resolve(address, referrer.address if referrer else base)
        kind = addresses.scheme(absolute)
        if referrer is not None:
            self._check_allowed(absolute, kind, referrer, local_files=local_files)
        if kind == "str":
            return Source(
                referrer.address if referrer else base, absolute[len(LITERAL) :], referrer.zone if referrer else None
            )
        timeout = min(self._timeout_s, timeout_s if timeout_s is not None else self._timeout_s)
        if kind == "file":
            return self._from_file(absolute)
        return self._from_server(absolute, kind, self._zone_max(absolute, referrer), timeout)

    # -- permissions -----------------------------------------------------------------------------------------------

    def _check_allowed(self, absolute: str, kind: str, referrer: Source, *, local_files: bool) -> None:
        if absolute == STDIN:
            raise Refused("standard input is for the command line only", where=display(absolute))
        if kind == "file" and not local_files:
            raise Refused("templates may not read files of this machine here", where=display(absolute))
        if not self._trusts_network:
            addresses.check_allowed(absolute, referrer.address)

    def _zone_max(self, absolute: str, referrer: Source | None) -> Zone:
        """Return the most protected zone that a server of `absolute` may be in."""
        if referrer is None or self.is_trusted(referrer) or addresses.scheme(referrer.address) == "unix":
            return Zone.LOCAL
        if referrer.zone is not None:
            return referrer.zone
        url, referrer_url = addresses.split(absolute), addresses.split(referrer.address)
        if (url.scheme, url.netloc) == (referrer_url.scheme, referrer_url.netloc):
            return Zone.LOCAL  # the same origin: the document of this inline text was fetched from there
        return addresses.zone_of_host(referrer_url.hostname or "") or Zone.PUBLIC

    # -- sources ---------------------------------------------------------------------------------------------------

    def _from_file(self, address: str) -> Source:
        if address == STDIN:
            return Source(STDIN, decoded(load(STDIN), display(STDIN)))
        path = _path(address)
        try:
            status = path.stat()
        except (OSError, ValueError):
            return Source(address, decoded(_file(path, address, self._bytes_max), display(address)))  # raises
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
        cached = self._cached(address)
        if cached is not None and cached.stamp == stamp:
            return cached.source
        source = Source(address, decoded(_file(path, address, self._bytes_max), display(address)))
        if self._clock.now() - status.st_mtime > _SETTLED_S:
            self._store(address, _CacheEntry(source, stamp, 0.0))
        return source

    def _from_server(self, address: str, kind: str, zone_max: Zone, timeout_s: float) -> Source:
        cached = self._cached(address)
        if cached is not None and (cached.source.zone or Zone.PUBLIC) > zone_max:
            cached = None  # fetched for a referrer in a more protected zone
        now = time.monotonic()
        if cached is not None and now - cached.validated_at < self._fresh_s:
            return cached.source
        if kind in ("http", "https", "unix"):
            send = self._http_request(address, kind, zone_max, cached)
        else:
            send = self._fetcher_request(address, kind)
        response = self._with_retries(send, now + timeout_s)
        if response.unchanged and cached is not None:
            self._store(address, cached._replace(validated_at=now))
            return cached.source
        source = Source(address, decoded(response.body, display(address)), response.zone)
        self._store(address, _CacheEntry(source, response.etag, now))
        return source

    def _http_request(
        self, address: str, kind: str, zone_max: Zone, cached: _CacheEntry | None
    ) -> "Callable[[float], Response]":
        from infrakit.template import fetching

        request = fetching.Request(
            address,
            zone_max=zone_max,
            link_local=self._link_local,
            etag=str(cached.stamp) if cached else "",
            bytes_max=self._bytes_max,
            tls=self._tls,
            socket_path=self._socket(address) if kind == "unix" else "",
        )
        return functools.partial(fetching.get, request)

    def _with_retries(self, send: "Callable[[float], Response]", deadline: float) -> "Response":
        """Send a request, and retry until the deadline if the server is unreachable or busy: a GET is idempotent."""
        pause_s = _PAUSE_S
        for attempt in range(1, self._attempts + 1):
            try:
                return send(max(deadline - time.monotonic(), 0.001))
            except (Unreachable, Throttled) as error:
                if attempt == self._attempts or time.monotonic() + pause_s >= deadline:
                    if isinstance(error, Throttled):
                        raise Refused(error.what, where=error.where) from None
                    raise
            threading.Event().wait(pause_s)
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _fetcher_request(self, address: str, kind: str) -> "Callable[[float], Response]":
        from infrakit.template import fetching

        fetcher = self._fetchers.get(kind)
        if fetcher is None:
            if kind == "s3":
                extras.require("s3", where=display(address))
            remedy = f"use {', '.join(addresses.SCHEMES)} or a path"
            raise Refused("unknown kind of address", where=display(address), remedy=remedy)

        def send(timeout_s: float) -> "Response":
            return fetching.Response(_limited(fetcher(address, timeout_s), address, self._bytes_max), "", Zone.PUBLIC)

        return send

    def _socket(self, address: str) -> str:
        server, _ = addresses.socket_and_path(address)
        if server.endswith(":"):
            return urllib.parse.unquote(server[:-1])
        if self._sockets is None:
            raise Refused(
                "names of plugins cannot be resolved here", where=display(address), remedy="write unix://SOCKET:/PATH"
            )
        return str(self._sockets(server))

    def _cached(self, address: str) -> _CacheEntry | None:
        with self._lock:
            cached = self._cache.get(address)
            if cached is not None:
                self._cache.move_to_end(address)
            return cached

    def _store(self, address: str, cached: _CacheEntry) -> None:
        with self._lock:
            before = self._cache.pop(address, None)
            self._cache[address] = cached
            self._cache_bytes += len(cached.source.text) - (len(before.source.text) if before else 0)
            while len(self._cache) > _CACHE_ENTRIES_MAX or (
                self._cache_bytes > _CACHE_BYTES_MAX and len(self._cache) > 1
            ):
                _, evicted = self._cache.popitem(last=False)
                self._cache_bytes -= len(evicted.source.text)


def decoded(body: bytes, where: str) -> str:
    """Decode UTF-8 text. Raises `InvalidSpec` if it is invalid."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"not UTF-8: found the byte 0x{body[error.start]:02x}"
        line = body.count(b"\n", 0, error.start) + 1
        problem = Problem(path="", message=found, line=line, hint="save the document as UTF-8")
        raise InvalidSpec([problem], where=where) from None


def _path(address: str) -> Path:
    if "://" not in address:
        return Path(address)
    url = addresses.split(address)
    if url.netloc not in ("", "localhost"):
        raise Refused(f"file on the host {url.netloc!r}, expected file:///PATH", where=display(address))
    return Path(urllib.parse.unquote(url.path))


def _file(path: Path, address: str, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file.read(bytes_max + 1), address, bytes_max)
    except FileNotFoundError:
        raise NotFound("no such file", where=display(address)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(f"cannot be read: {reason}", where=display(address)) from None


def _limited(body: bytes, address: str, bytes_max: int) -> bytes:
    if len(body) > bytes_max:
        raise Refused(f"has more than {bytes_max:,} bytes", where=display(address))
    return body
