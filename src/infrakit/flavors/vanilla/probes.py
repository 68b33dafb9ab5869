"""Probes: each checks one instance once, by a command, over TCP or over HTTP.

A failure must be attributed to the side that caused it. A refused connection, a timeout and a bad answer are faults of
the instance. A name that does not resolve, a lack of file descriptors, a missing route or program are faults of the
prober: they would make *every* instance unhealthy at once, so the outcome is unknown, as for any other failure.
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

_INSTANCE_FAULTS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "connection reset",
    errno.ECONNABORTED: "connection aborted",
    errno.EPIPE: "connection closed",
    errno.EHOSTUNREACH: "host unreachable",
    errno.EHOSTDOWN: "host down",
    errno.ETIMEDOUT: "no answer",
}
_NO_PROGRAM = (126, 127)  # exit codes with which a shell reports that it could not run a command

_Addresses = list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]]


class Outcome(NamedTuple):
    """The result of a probe. `passed` is None if it is unknown; `note` begins with the fact, because it may be cut."""

    passed: bool | None
    note: str


async def run(words: list[str], *, name: str, environment: dict[str, str], timeout_s: float) -> Outcome:
    """Run a command, which passes with exit code 0. `name` replaces it in notes: its words may contain a password."""
    try:
        result = await command.run(words, environment=environment, timeout_s=timeout_s)
    except (OSError, ValueError) as error:
        return Outcome(None, f"cannot be run: {_describe(error)} ({name})")
    if result.code is None:
        return Outcome(False, f"not finished within {timeout_s:g} s, killed ({name})")
    how = f"terminated by signal {-result.code}" if result.code < 0 else f"exit code {result.code}"
    output = f": {result.last_line}" if result.last_line else ""
    if result.code < 0 or result.code in _NO_PROGRAM:
        return Outcome(None, f"{how}{output} ({name})")
    return Outcome(result.code == 0, f"{how}{output} ({name})")


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port` or `[::1]:port`. Raises `ValueError`."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


async def tcp(address: str, *, timeout_s: float) -> Outcome:
    """Open a connection, which passes if it is accepted. Nothing is sent."""
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
    return Outcome(True, f"accepted ({name})") if failure is None else _failed(name, failure)


async def _resolve(host: str, port: int) -> _Addresses:
    """Resolve a host: numeric addresses are parsed directly, only names need a thread."""
    try:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def _connect(addresses: _Addresses) -> OSError | None:
    """Try the addresses in turn. Returns None once connected, else an error, preferably a fault of the instance."""
    loop = asyncio.get_running_loop()
    failures: list[OSError] = []
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.setblocking(False)
                await loop.sock_connect(connection, address)
                if connection.getsockname() != connection.getpeername():
                    return None
                # On loopback, a port without a listener may connect to itself.
                failures.append(ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
        except OSError as error:
            failures.append(error)
    return next((each for each in failures if each.errno in _INSTANCE_FAULTS), failures[-1])


class HTTPProbe:
    """GET over HTTP. One session is created at the first use; each probe opens a new connection."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, *, status: int | None, timeout_s: float) -> Outcome:
        """Request the URL, which passes with `status`, or by default with any 2xx. The body is not read."""
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
            return Outcome(None, f"{_describe(error)} ({name})")
        except aiohttp.ClientOSError as error:
            return _failed(name, error)
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
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _failed(name: str, error: OSError) -> Outcome:
    """Return the outcome of a failed connection. Without errno, several addresses failed with different errors."""
    is_instance_fault = error.errno is None or error.errno in _INSTANCE_FAULTS
    return Outcome(False if is_instance_fault else None, f"{_describe(error)} ({name})")


def _unresolved(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the name was not resolved in time"
    return _describe(error)


def _describe(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in _INSTANCE_FAULTS:
        return _INSTANCE_FAULTS[number]
    return str(getattr(error, "strerror", None) or error)
