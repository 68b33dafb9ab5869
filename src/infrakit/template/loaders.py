"""Every fetch of a document by its address: a path, `-` for standard input, or a URL.

One place, because each fetch needs the same care: a limit on the size, a deadline for the whole, a check of who may
name what, and an address in messages that shows no password and no token. `load` gets one whole document for an
operator who typed its address. A `Loader` gets templates: it asks again where that may help, keeps what it got and
asks only whether it has changed, and restricts templates from elsewhere to what `addresses` allows them to name.
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
from infrakit.template.addresses import LITERAL, STDIN, Reach, display, resolve

if TYPE_CHECKING:
    import ssl

    from infrakit.template.fetching import Answer

BYTES_MAX = 10_000_000
TEMPLATE_BYTES_MAX = 1_000_000
TIMEOUT_S = 30.0
FRESH_S = 5.0  # how long nothing is asked again
ATTEMPTS = 3
_PAUSE_S = 0.2  # before the second attempt; twice as long before the third
_KEPT_MAX = 256
_KEPT_BYTES_MAX = 10_000_000
_SETTLED_S = 2.0  # a file changed less long ago may change again within one tick of its time

Fetcher = Callable[
    [str, float], bytes
]  # (address, timeout_s); raises `NotFound`, `Refused`, `Unreachable`, `Throttled`

__all__ = ["BYTES_MAX", "STDIN", "Fetcher", "Loader", "Source", "display", "load", "resolve"]


def load(address: str, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """The document's bytes. Raises `NotFound`, `Unreachable` or `Refused`; the error names the address."""
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
    """The text of a template, and the absolute address it stands at; none for text that came without one."""

    address: str
    text: str
    reach: Reach | None = None  # of the server it came from; None: known by its address only


class _Kept(NamedTuple):
    source: Source
    stamp: tuple[int, ...] | str  # of a file, or the entity tag
    asked_at: float


class Loader:
    """Fetches templates, by addresses that may be relative to the document that names them. Safe in any thread.

    `fetchers` serve schemes that need a client of their own (`s3`); `sockets` returns the socket of a plugin by name.
    `trusts_network` lifts every restriction on what templates from elsewhere may name, `link_local` that on metadata
    services of clouds. `tls` replaces the machine's own list of authorities.
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
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def inline(self, text: str, *, base: str = "") -> Source:
        """Text that is at hand, as if it stood at `base`."""
        return Source(base, text)

    def is_trusted(self, source: Source) -> bool:
        """Whether a template stands on this machine, and so may do what the operator may."""
        return self._trusts_network or addresses.scheme(source.address) in ("file", "str")

    def fetch(
        self,
        address: str,
        *,
        base: str = "",
        namer: Source | None = None,
        local_files: bool = True,
        timeout_s: float | None = None,
    ) -> Source:
        """The template at `address`, which is relative to `base`, or to the template `namer` that names it.

        Raises `NotFound`, `Unreachable`, `Refused`, also for what that template may not name; `InvalidSpec` if what
        is there is no text.
        """
        absolute = resolve(address, namer.address if namer else base)
        kind = addresses.scheme(absolute)
        if namer is not None:
            self._allow(absolute, kind, namer, local_files=local_files)
        if kind == "str":
            return Source(namer.address if namer else base, absolute[len(LITERAL) :], namer.reach if namer else None)
        timeout = min(self._timeout_s, timeout_s if timeout_s is not None else self._timeout_s)
        if kind == "file":
            return self._from_file(absolute)
        return self._from_server(absolute, kind, self._reach_max(absolute, namer), timeout)

    # -- who may name what -----------------------------------------------------------------------------------------

    def _allow(self, absolute: str, kind: str, namer: Source, *, local_files: bool) -> None:
        if absolute == STDIN:
            raise Refused("standard input is for the command line only", where=display(absolute))
        if kind == "file" and not local_files:
            raise Refused("templates may not read files of this machine here", where=display(absolute))
        if not self._trusts_network:
            addresses.allow(absolute, namer.address)

    def _reach_max(self, absolute: str, namer: Source | None) -> Reach:
        """How far inside the server of `absolute` may be."""
        if namer is None or self.is_trusted(namer) or addresses.scheme(namer.address) == "unix":
            return Reach.MACHINE
        if namer.reach is not None:
            return namer.reach
        url, theirs = addresses.split(absolute), addresses.split(namer.address)
        if (url.scheme, url.netloc) == (theirs.scheme, theirs.netloc):
            return Reach.MACHINE  # the text came with the address of its document, which was fetched from there
        return addresses.named_reach(theirs.hostname or "") or Reach.WORLD

    # -- where it comes from ---------------------------------------------------------------------------------------

    def _from_file(self, address: str) -> Source:
        if address == STDIN:
            return Source(STDIN, decoded(load(STDIN), display(STDIN)))
        path = _path(address)
        try:
            status = path.stat()
        except (OSError, ValueError):
            return Source(address, decoded(_file(path, address, self._bytes_max), display(address)))  # which raises
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
        kept = self._get(address)
        if kept is not None and kept.stamp == stamp:
            return kept.source
        source = Source(address, decoded(_file(path, address, self._bytes_max), display(address)))
        if self._clock.now() - status.st_mtime > _SETTLED_S:
            self._keep(address, _Kept(source, stamp, 0.0))
        return source

    def _from_server(self, address: str, kind: str, reach_max: Reach, timeout_s: float) -> Source:
        kept = self._get(address)
        if kept is not None and (kept.source.reach or Reach.WORLD) > reach_max:
            kept = None  # cached for a template further inside; this one may not read it
        now = time.monotonic()
        if kept is not None and now - kept.asked_at < self._fresh_s:
            return kept.source
        if kind in ("http", "https", "unix"):
            ask = self._asking(address, kind, reach_max, kept)
        else:
            ask = self._fetching(address, kind)
        answer = self._repeated(ask, now + timeout_s)
        if answer.unchanged and kept is not None:
            self._keep(address, kept._replace(asked_at=now))
            return kept.source
        source = Source(address, decoded(answer.body, display(address)), answer.reach)
        self._keep(address, _Kept(source, answer.etag, now))
        return source

    def _asking(self, address: str, kind: str, reach_max: Reach, kept: _Kept | None) -> "Callable[[float], Answer]":
        from infrakit.template import fetching

        request = fetching.Request(
            address,
            reach_max=reach_max,
            link_local=self._link_local,
            etag=str(kept.stamp) if kept else "",
            bytes_max=self._bytes_max,
            tls=self._tls,
            socket_path=self._socket(address) if kind == "unix" else "",
        )
        return functools.partial(fetching.get, request)

    def _repeated(self, ask: "Callable[[float], Answer]", deadline: float) -> "Answer":
        """Asked again, within the time, when the server could not be reached or was busy: a GET changes nothing."""
        pause_s = _PAUSE_S
        for attempt in range(1, self._attempts + 1):
            try:
                return ask(max(deadline - time.monotonic(), 0.001))
            except (Unreachable, Throttled) as error:
                if attempt == self._attempts or time.monotonic() + pause_s >= deadline:
                    if isinstance(error, Throttled):
                        raise Refused(error.what, where=error.where) from None
                    raise
            threading.Event().wait(pause_s)
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _fetching(self, address: str, kind: str) -> "Callable[[float], Answer]":
        from infrakit.template import fetching

        fetcher = self._fetchers.get(kind)
        if fetcher is None:
            if kind == "s3":
                extras.require("s3", where=display(address))
            remedy = f"use {', '.join(addresses.SCHEMES)} or a path"
            raise Refused("unknown kind of address", where=display(address), remedy=remedy)

        def ask(timeout_s: float) -> "Answer":
            return fetching.Answer(_limited(fetcher(address, timeout_s), address, self._bytes_max), "", Reach.WORLD)

        return ask

    def _socket(self, address: str) -> str:
        server, _ = addresses.socket_and_path(address)
        if server.endswith(":"):
            return urllib.parse.unquote(server[:-1])
        if self._sockets is None:
            raise Refused(
                "plugins are not known here by name", where=display(address), remedy="write unix://SOCKET:/PATH"
            )
        return str(self._sockets(server))

    def _get(self, address: str) -> _Kept | None:
        with self._lock:
            kept = self._kept.get(address)
            if kept is not None:
                self._kept.move_to_end(address)
            return kept

    def _keep(self, address: str, kept: _Kept) -> None:
        with self._lock:
            before = self._kept.pop(address, None)
            self._kept[address] = kept
            self._kept_bytes += len(kept.source.text) - (len(before.source.text) if before else 0)
            while len(self._kept) > _KEPT_MAX or (self._kept_bytes > _KEPT_BYTES_MAX and len(self._kept) > 1):
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= len(dropped.source.text)


def decoded(body: bytes, where: str) -> str:
    """Text of bytes. Raises `InvalidSpec` when they are none."""
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
