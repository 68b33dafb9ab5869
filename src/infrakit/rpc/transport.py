"""The transport to one address: requests with a timeout each, over kept-alive connections.

The error determines what the caller may conclude. `Unreachable`: no connection, nothing was done. `OutcomeUnknown`: the
connection broke or the timeout passed after the request was sent. After a failed connection attempt the transport backs
off exponentially, and calls during the back-off fail at once.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator

import aiohttp

from infrakit.rpc import address as addresses
from infrakit.rpc import discovery, remotes, tls
from infrakit.rpc.turns import Turns
from infrakit.spi import errors

CONNECT_S = 5.0
KEEPALIVE_S = 10.0  # shorter than any server's, so that requests rarely hit a connection that is being closed
ANSWER_BYTES_MAX = 256 * 1024 * 1024
BACKOFF_S = 0.05  # after the first failed connection attempt; doubles
BACKOFF_MAX_S = 2.0
_REMEDY = f"check ${remotes.TOKEN_VARIABLE} and ${remotes.CERT_VARIABLE}"
LINE_BYTES_MAX = 1024 * 1024

_AT_ONCE = contextlib.nullcontext()
_HEADERS = {"Content-Type": "application/json"}
_REJECTED = (401, 403, 503)  # HTTP status of a server that has not read the request


class Broken(errors.OutcomeUnknown):
    """The connection broke before a response arrived; a kept-alive connection may have expired."""


class Transport:
    """A transport to the path of a unix socket or to a URL, see `rpc.address`. Raises `Refused` if it is neither."""

    def __init__(self, address: str, *, headers: dict[str, str] | None = None) -> None:
        self.address = address
        self.failures = 0  # failed and broken connections
        self._connections = 0  # opened connections
        self._turns = Turns()
        self._place = addresses.parse(address)
        self._url = self._place if isinstance(self._place, str) else "http://plugin/"
        self._headers = _HEADERS | (headers or {})
        self._session: aiohttp.ClientSession | None = None
        self._auth_headers: dict[str, str] = {}
        self._tls: ssl.SSLContext | bool = True
        self._read_at = -1  # the value of `failures` when our credentials were last read
        self._backoff_until = 0.0
        self._backoff_s = BACKOFF_S
        self._last_failure = ""

    @property
    def incarnation(self) -> int:
        """Increases with every connection. While it is the same, the same process answers."""
        return self.failures + self._connections

    async def _count_connection(self, *_: object) -> None:
        self._connections += 1

    async def post(self, body: bytes, *, deadline_s: float, may_wait: bool = False) -> bytes:
        """Send a request, at once or, if it may wait, in its turn.

        Raises `Unreachable`, or `OutcomeUnknown` if the server may have read the request.
        """
        self._check_backoff()
        try:
            async with asyncio.timeout(deadline_s), self._turns if may_wait else _AT_ONCE:
                await self._prepare()
                async with self._open().post(
                    self._url, data=body, headers=self._auth_headers, ssl=self._tls, allow_redirects=False
                ) as response:
                    answer = await self._read(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise self._unreachable(error) from None
        except TimeoutError:
            self.failures += 1
            raise errors.OutcomeUnknown(f"no answer within {deadline_s:g} s", where=self.address) from None
        except (aiohttp.ClientError, OSError) as error:
            self.failures += 1
            raise Broken(f"the connection broke: {_reason(error)}", where=self.address) from None
        self._backoff_s = BACKOFF_S
        if response.status in _REJECTED:
            text = answer[:200].decode(errors="replace").strip()
            raise errors.Refused(f"it answers {response.status}: {text}", where=self.address, remedy=_REMEDY)
        return answer

    async def lines(self, path: str, *, quiet_s: float | None = None) -> AsyncIterator[bytes]:
        """Yield the `data:` lines of an event stream until it ends. Raises `Unreachable`.

        `quiet_s` is the read timeout: without data or a heartbeat for so long, the stream counts as broken.
        """
        self._check_backoff()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=quiet_s)
        await self._prepare()
        url = self._url.rstrip("/") + path
        try:
            async with self._open().get(
                url, timeout=timeout, headers=self._auth_headers, ssl=self._tls, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise errors.Unreachable(f"it answers {response.status} to {path}", where=self.address)
                async for line in response.content:
                    if line.startswith(b"data:"):
                        yield line[5:].strip()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from None

    async def close(self) -> None:
        """Close the connections. The next request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _prepare(self) -> None:
        """Read our certificate and token; after a failure read them again, because they may have been renewed."""
        failures = self.failures
        if isinstance(self._place, str) and self._read_at != failures:
            self._auth_headers, self._tls = await asyncio.to_thread(_credentials, self._place)
            self._read_at = failures

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector: aiohttp.BaseConnector
            if isinstance(self._place, str):
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S)
            else:
                discovery.check_length(self._place)
                connector = aiohttp.UnixConnector(str(self._place), limit=0, keepalive_timeout=KEEPALIVE_S)
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(self._count_connection)
            self._session = aiohttp.ClientSession(
                connector=connector,
                trace_configs=[trace],
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                read_bufsize=LINE_BYTES_MAX,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the body with a size limit, because a server may send without end."""
        if (response.content_length or 0) > ANSWER_BYTES_MAX:
            raise errors.OutcomeUnknown(f"the response has {response.content_length:,} bytes", where=self.address)
        parts, size = [], 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                raise errors.OutcomeUnknown(f"the response exceeds {ANSWER_BYTES_MAX:,} bytes", where=self.address)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check_backoff(self) -> None:
        left_s = self._backoff_until - asyncio.get_running_loop().time()
        if left_s > 0:
            raise errors.Unreachable(f"{self._last_failure}, and is retried in {left_s:.1f} s", where=self.address)

    def _unreachable(self, error: Exception) -> errors.Unreachable:
        self.failures += 1
        self._last_failure = f"it cannot be reached ({_reason(error)})"
        self._backoff_until = asyncio.get_running_loop().time() + self._backoff_s
        self._backoff_s = min(BACKOFF_MAX_S, self._backoff_s * 2)
        return errors.Unreachable(self._last_failure, where=self.address, remedy="check it with: infrakit plugin ls")


@contextlib.asynccontextmanager
async def opened(address: str) -> AsyncIterator[Transport]:
    """A context with a transport, which is closed on exit."""
    transport = Transport(address)
    try:
        yield transport
    finally:
        await transport.close()


def _credentials(url: str) -> tuple[dict[str, str], ssl.SSLContext | bool]:
    """Return our credentials for a plugin on another machine: a header with a token, and a TLS context."""
    remote = remotes.plugin(url)
    token = remote.token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if not url.startswith("https:"):
        return headers, True
    return headers, tls.client_context(ca=remote.ca, cert=remote.cert, key=remote.key)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0  # the system's message; asyncio's repeats the address
        return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__
