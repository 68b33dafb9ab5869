"""Probes: one look at one instance, by a command, over TCP or over HTTP.

The one hard question is whose fault a failure is.
A refused connection, a silent one and a bad answer are the instance's.
A name that does not resolve, a full table of files, a missing route or program are ours: they would make *every*
instance look sick at once, so they pass no judgement. What is not known to be the instance's counts as ours.
"""

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from infrakit.flavors.vanilla import command

if TYPE_CHECKING:
    import aiohttp

_THEIRS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "connection reset",
    errno.ECONNABORTED: "connection aborted",
    errno.EPIPE: "connection closed",
    errno.EHOSTUNREACH: "host unreachable",
    errno.EHOSTDOWN: "host down",
    errno.ETIMEDOUT: "no answer",
}
_NO_PROGRAM = (126, 127)  # how a shell says that it could not run what it was told to run

_Addresses = list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]]


class Outcome(NamedTuple):
    """The result of a probe. `passed` is None when it could not be made; `note` begins with the fact: it may be cut."""

    passed: bool | None
    note: str


async def run(words: list[str], *, name: str, environment: dict[str, str], timeout_s: float) -> Outcome:
    """Passes with exit code 0. `name` stands for the command in notes: its words may hold a password."""
    try:
        ended = await command.run(words, environment=environment, timeout_s=timeout_s)
    except (OSError, ValueError) as error:
        return Outcome(None, f"cannot be run: {_words(error)} ({name})")
    if ended.code is None:
        return Outcome(False, f"not finished within {timeout_s:g} s, killed ({name})")
    how = f"ended by signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    said = f": {ended.last_line}" if ended.last_line else ""
    if ended.code < 0 or ended.code in _NO_PROGRAM:
        return Outcome(None, f"{how}{said} ({name})")
    return Outcome(ended.code == 0, f"{how}{said} ({name})")


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[::1]:port`; raises `ValueError`."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


async def tcp(address: str, *, timeout_s: float) -> Outcome:
    """Passes when a connection is accepted. Nothing is sent."""
    name = f"TCP {address}"
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        host, port = split_address(address)
        async with asyncio.timeout_at(deadline):
            addresses = await _resolve(host, port)
    except (OSError, ValueError) as error:
        return Outcome(None, f"{_unresolved(error)} ({name})")
    try:
        async with asyncio.timeout_at(deadline):
            failure = await _connect(addresses)
    except TimeoutError:
        return Outcome(False, f"no answer within {timeout_s:g} s ({name})")
    return Outcome(True, f"accepted ({name})") if failure is None else _blame(name, failure)


async def _resolve(host: str, port: int) -> _Addresses:
    """A numeric address is read on the spot; only names cost a thread."""
    try:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def _connect(addresses: _Addresses) -> OSError | None:
    """Try one after the other; of several failures the one that tells about the instance counts."""
    loop = asyncio.get_running_loop()
    failures: list[OSError] = []
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.setblocking(False)
                await loop.sock_connect(connection, address)
                if connection.getsockname() != connection.getpeername():
                    return None
                # Loopback may connect a port nobody listens on with itself.
                failures.append(ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
        except OSError as error:
            failures.append(error)
    return next((each for each in failures if each.errno in _THEIRS), failures[-1])


class HTTPProbe:
    """GET over HTTP, through one session made at the first use; each look is a new connection."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, *, status: int | None, timeout_s: float) -> Outcome:
        """Passes with `status`, or with any 2xx. The body is not read."""
        import aiohttp

        deadline = asyncio.get_running_loop().time() + timeout_s
        name = "GET"
        try:
            parts = urlsplit(url)
            name = f"GET {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # no password, no query
            port = parts.port or (443 if parts.scheme == "https" else 80)
            async with asyncio.timeout_at(deadline):
                await _resolve(parts.hostname or "", port)
        except (OSError, ValueError) as error:
            return Outcome(None, f"{_unresolved(error)} ({name})")
        try:
            async with (
                asyncio.timeout_at(deadline),
                self._open().get(url, allow_redirects=False) as response,
            ):
                passed = response.status == status if status is not None else 200 <= response.status < 300
                return Outcome(passed, f"HTTP {response.status} ({name})")
        except TimeoutError:
            return Outcome(False, f"no answer within {timeout_s:g} s ({name})")
        except (aiohttp.ClientConnectorDNSError, aiohttp.ClientSSLError, ValueError) as error:
            return Outcome(None, f"{_words(error)} ({name})")
        except aiohttp.ClientOSError as error:
            return _blame(name, error)
        except aiohttp.ClientError:
            return Outcome(False, f"no HTTP answer ({name})")

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": "infrakit"},
                auto_decompress=False,
            )
        return self._session

    async def close(self) -> None:
        """Let go of the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _blame(name: str, error: OSError) -> Outcome:
    """No number: aiohttp tried several addresses and each failed in its own way."""
    theirs = error.errno is None or error.errno in _THEIRS
    return Outcome(False if theirs else None, f"{_words(error)} ({name})")


def _unresolved(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the name was not resolved in time"
    return _words(error)


def _words(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in _THEIRS:
        return _THEIRS[number]
    return str(getattr(error, "strerror", None) or error)
