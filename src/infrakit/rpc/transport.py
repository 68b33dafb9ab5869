"""One address that answers: requests with a deadline each, over connections that are kept.

What is raised says what may be concluded. No connection: nothing was done. A connection that broke, or a deadline that
passed, after the request was sent: nobody knows. After a connection has failed, the address is left alone for a moment,
longer each time, and callers are told so at once.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator

import aiohttp

from infrakit.rpc import address as addresses
from infrakit.rpc import discovery, remotes, tls
from infrakit.spi import errors

CONNECT_S = 5.0
KEEPALIVE_S = 10.0  # less than any server's, so that a request rarely meets a connection that is being closed
ANSWER_BYTES_MAX = 256 * 1024 * 1024
REST_S = 0.05  # after the first failure to connect; doubles
REST_MAX_S = 2.0
_REMEDY = f"see ${remotes.TOKEN_VARIABLE} and ${remotes.CERT_VARIABLE}"
LINE_BYTES_MAX = 1024 * 1024

_HEADERS = {"Content-Type": "application/json"}
_TURNED_AWAY = (401, 403, 503)  # what a server answers that has not looked at the request


class Broken(errors.OutcomeUnknown):
    """The connection broke before an answer came, perhaps because it had been kept for too long."""


class Transport:
    """`address` is the path of a unix socket, or a URL; see `rpc.address`. Raises `Refused` if it is neither."""

    def __init__(self, address: str, *, headers: dict[str, str] | None = None) -> None:
        self.address = address
        self.failures = 0  # connections that failed or broke
        self._connections = 0  # that were opened
        self._place = addresses.parse(address)
        self._url = self._place if isinstance(self._place, str) else "http://plugin/"
        self._headers = _HEADERS | (headers or {})
        self._session: aiohttp.ClientSession | None = None
        self._shown: dict[str, str] = {}
        self._secure: ssl.SSLContext | bool = True
        self._read_at = -1  # the count of failures when our certificate and token were read
        self._resting_until = 0.0
        self._rest_s = REST_S
        self._why = ""

    @property
    def incarnation(self) -> int:
        """Grows with every connection: while it is the same, so is the process that answers."""
        return self.failures + self._connections

    async def _count(self, *_: object) -> None:
        self._connections += 1

    async def post(self, body: bytes, *, deadline_s: float) -> bytes:
        """Raises `Unreachable`, or `OutcomeUnknown` once the request may have been read."""
        self._check_rest()
        try:
            async with asyncio.timeout(deadline_s):
                await self._prepare()
                async with self._open().post(
                    self._url, data=body, headers=self._shown, ssl=self._secure, allow_redirects=False
                ) as response:
                    answer = await self._read(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise self._unreachable(error) from None
        except TimeoutError:
            self.failures += 1
            raise errors.OutcomeUnknown(f"no answer within {deadline_s:g} s", where=self.address) from None
        except (aiohttp.ClientError, OSError) as error:
            self.failures += 1
            raise Broken(f"the connection broke: {_words(error)}", where=self.address) from None
        self._rest_s = REST_S
        if response.status in _TURNED_AWAY:
            words = answer[:200].decode(errors="replace").strip()
            raise errors.Refused(f"it answers {response.status}: {words}", where=self.address, remedy=_REMEDY)
        return answer

    async def lines(self, path: str, *, quiet_s: float | None = None) -> AsyncIterator[bytes]:
        """The `data:` lines of an event stream, for as long as it lasts. Raises `Unreachable`.

        `quiet_s`: so long may nothing come, not even a sign of life, before the stream counts as broken.
        """
        self._check_rest()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=quiet_s)
        await self._prepare()
        url = self._url.rstrip("/") + path
        try:
            async with self._open().get(
                url, timeout=timeout, headers=self._shown, ssl=self._secure, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise errors.Unreachable(f"it answers {response.status} to {path}", where=self.address)
                async for line in response.content:
                    if line.startswith(b"data:"):
                        yield line[5:].strip()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from None

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _prepare(self) -> None:
        """Read our certificate and token, and again after a failure: they may have been renewed since."""
        failures = self.failures
        if isinstance(self._place, str) and self._read_at != failures:
            self._shown, self._secure = await asyncio.to_thread(_shown, self._place)
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
            trace.on_connection_create_end.append(self._count)
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
        """The body. A server may claim any length, and send for ever."""
        if (response.content_length or 0) > ANSWER_BYTES_MAX:
            raise errors.OutcomeUnknown(f"the answer has {response.content_length:,} bytes", where=self.address)
        parts, size = [], 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                raise errors.OutcomeUnknown(f"the answer has more than {ANSWER_BYTES_MAX:,} bytes", where=self.address)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check_rest(self) -> None:
        rest_s = self._resting_until - asyncio.get_running_loop().time()
        if rest_s > 0:
            raise errors.Unreachable(f"{self._why}, and is tried again in {rest_s:.1f} s", where=self.address)

    def _unreachable(self, error: Exception) -> errors.Unreachable:
        self.failures += 1
        self._why = f"it cannot be reached ({_words(error)})"
        self._resting_until = asyncio.get_running_loop().time() + self._rest_s
        self._rest_s = min(REST_MAX_S, self._rest_s * 2)
        return errors.Unreachable(self._why, where=self.address, remedy="see whether it runs: infrakit plugin ls")


@contextlib.asynccontextmanager
async def opened(address: str) -> AsyncIterator[Transport]:
    """A transport that is closed in the end."""
    transport = Transport(address)
    try:
        yield transport
    finally:
        await transport.close()


def _shown(url: str) -> tuple[dict[str, str], ssl.SSLContext | bool]:
    """What is shown to a plugin on another machine: a token, and a certificate in the handshake."""
    remote = remotes.plugin(url)
    token = remote.token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if not url.startswith("https:"):
        return headers, True
    return headers, tls.client_context(ca=remote.ca, cert=remote.cert, key=remote.key)


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0  # the system's; asyncio's own words repeat the address
        return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__
