"""HTTP as bytes: requests are sent as the caller wrote them, and responses are kept whole, valid or not.

It shares no code with InfraKit's client, so that a bug there cannot hide one in a plugin.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from infrakit.rpc import address as addresses
from infrakit.rpc import discovery, remotes, tls
from infrakit.spi import errors

CONNECT_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
JSON = "application/json"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A response. `head` is the status line and the headers, without the empty line after them."""

    status: int
    head: str
    body: bytes


class Wire:
    """One address: the path of a unix socket, a URL, or a `.listen` file. Raises `Refused` if it is none of these."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._place = addresses.parse(address)
        self._parts = urlsplit(self._place if isinstance(self._place, str) else "http://h/")

    def head(self, body: bytes, *, method: str = "POST", path: str = "", content_type: str | None = JSON) -> str:
        """Return the request line and the headers; `path` is relative to the plugin's URL, without a slash."""
        lines = [
            f"{method} {self._parts.path.rstrip('/')}/{path} HTTP/1.1",
            f"Host: {self._parts.netloc}",
            "User-Agent: infrakit-check",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        return "\r\n".join(lines if content_type is None else [*lines, f"Content-Type: {content_type}"])

    async def send(self, head: str, body: bytes, *, deadline_s: float) -> Answer:
        """Send a request. Raises `Unreachable` without a connection, `OutcomeUnknown` without a whole response."""
        async with self._connected() as (reader, writer, authorization):
            try:
                async with asyncio.timeout(deadline_s):
                    writer.write(f"{head}\r\n{authorization}\r\n".encode() + body)
                    with contextlib.suppress(ConnectionError):  # the server may respond before it has read everything
                        await writer.drain()
                    return await _read(reader)
            except TimeoutError:
                raise errors.OutcomeUnknown(f"no answer within {deadline_s:g} s", where=self.address) from None
            except asyncio.IncompleteReadError as error:
                words = f"the connection was closed after {len(error.partial)} bytes of an answer"
                raise errors.OutcomeUnknown(words, where=self.address) from None
            except (OSError, ValueError, asyncio.LimitOverrunError) as error:
                words = f"no HTTP answer came: {str(error) or type(error).__name__}"
                raise errors.OutcomeUnknown(words, where=self.address) from None

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, str]]:
        """Open a connection for one request, and yield it with the authorization header."""
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer, authorization = await self._connect()
        except (OSError, TimeoutError) as error:
            words = f"it cannot be reached ({getattr(error, 'strerror', None) or str(error) or 'no answer'})"
            remedy = "check it with: infrakit plugin ls"
            raise errors.Unreachable(words, where=self.address, remedy=remedy) from None
        try:
            yield reader, writer, authorization
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        if isinstance(self._place, Path):
            discovery.check_length(self._place)
            return *await asyncio.open_unix_connection(str(self._place)), ""
        token, secure = await asyncio.to_thread(_credentials, self._place)
        port = self._parts.port or (443 if secure else 80)
        opened = await asyncio.open_connection(self._parts.hostname, port, ssl=secure)
        return *opened, f"Authorization: Bearer {token}\r\n" if token else ""


def _credentials(url: str) -> tuple[str, ssl.SSLContext | None]:
    """Return the token and the TLS context with the client certificate, as configured for this URL."""
    remote = remotes.plugin(url)
    secure = url.startswith("https:")
    return remote.token(), tls.client_context(ca=remote.ca, cert=remote.cert, key=remote.key) if secure else None


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n")
    status, *lines = head.split("\r\n")
    version, code, *_ = [*status.split(" "), ""]
    if not version.startswith("HTTP/1.") or not code.isdecimal():
        raise ValueError(f"{status[:80]!r} is no status line")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(status=int(code), head=head, body=await _body(reader, headers))


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunks(reader)
    if "content-length" in headers:
        return await reader.readexactly(_bounded(int(headers["content-length"])))
    body = b""
    while part := await reader.read(65536):
        body += part
        _bounded(len(body))
    return body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        _bounded(len(body) + size)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    return body


def _bounded(size: int) -> int:
    if not 0 <= size <= ANSWER_BYTES_MAX:
        raise ValueError(f"the answer has {size:,} bytes")
    return size
