"""The transport to one `dockerd`: connection, timeouts, and the classification of failures.

It uses aiodocker (the extra `docker`), imported on first use: the asynchronous client that keeps up with releases of
the Engine and of Python, based on aiohttp, which InfraKit requires anyway. This module decides what a failure means: a
request that was certainly not sent is `Unreachable`, a change without a response is `OutcomeUnknown`, and a response is
final.

The address of an Engine has the format of Docker's own tools: `unix:///var/run/docker.sock`, or `tcp://HOST:PORT`, with
TLS if certificates are given.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from infrakit.spi import errors, extras

T = TypeVar("T")

DEFAULT = "unix:///var/run/docker.sock"
READ_S = 15.0
CHANGE_S = 60.0
CONNECT_S = 5.0
FORM = "write unix:///PATH or tcp://HOST:PORT"

_NOT_CONNECTED = 900  # the status that aiodocker reports for every failure below HTTP

Filters = Mapping[str, Sequence[str]]


class EngineClient:
    """Base of clients of one Engine. Subclasses make requests with `_read` and `_change`, and translate its errors."""

    alternative = "name another one in DOCKER_HOST"  # the alternative to starting this Engine, in remedies

    def __init__(self, host: str = DEFAULT, *, certificates: Path | None = None) -> None:
        """Does not connect yet. `certificates` contains ca.pem, cert.pem and key.pem. Raises `Refused`."""
        self.where = host
        extras.require("docker", where=host)
        self._url, self._tls = _address(host, certificates)
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def events(self, filters: Filters) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the events from now on. Raises `Unreachable` when the stream breaks."""
        from aiodocker.events import DockerEvents

        client = await self._open()
        stream = DockerEvents(client)
        subscriber = stream.subscribe(create_task=False)
        task = asyncio.create_task(stream.run(filters=json.dumps(filters)))
        try:
            while (event := await subscriber.get()) is not None:
                yield event
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        raise errors.Unreachable("its stream of events has ended", where=self.where)

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- requests --------------------------------------------------------------------------------------------------

    async def _open(self) -> Any:
        """Return the client, with the API version negotiated, so that later failures concern the request itself."""
        async with self._opening:
            if self._client is None:
                import aiodocker
                import aiohttp

                timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
                client = aiodocker.Docker(url=self._url, ssl_context=self._tls, timeout=timeout)
                try:
                    async with asyncio.timeout(READ_S):
                        client.api_version = f"v{(await client.version())['ApiVersion']}"
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    async def _read(self, request: Callable[[Any], Awaitable[T]], *, deadline_s: float = READ_S) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                return await request(await self._open())
        except TimeoutError:
            raise errors.Unreachable(f"no answer within {deadline_s:g} s", where=self.where) from None
        except _failures() as error:
            raise self._request_error(error, "reading", changes=False) from None

    async def _change(self, doing: str, request: Callable[[Any], Awaitable[T]], *, deadline_s: float = CHANGE_S) -> T:
        sent = False
        try:
            async with asyncio.timeout(deadline_s):
                client = await self._open()
                sent = True
                return await request(client)
        except TimeoutError:
            kind = errors.OutcomeUnknown if sent else errors.Unreachable
            raise kind(f"{doing}: no answer within {deadline_s:g} s", where=self.where) from None
        except _failures() as error:
            raise self._request_error(error, doing, changes=sent) from None

    # -- failures, by what the caller may conclude from them -------------------------------------------------------

    def _response_error(self, status: int, message: str, doing: str, *, changes: bool) -> errors.InfraKitError:
        """Translate an error response into an error of InfraKit."""
        raise NotImplementedError

    def _request_error(self, error: Exception, doing: str, *, changes: bool) -> errors.InfraKitError:
        import aiodocker
        import aiohttp

        if isinstance(error, aiodocker.DockerError) and error.status != _NOT_CONNECTED:
            return self._response_error(error.status, error.message.strip(), doing, changes=changes)
        cause = error.__context__ if isinstance(error, aiodocker.DockerError) else error
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return errors.Unreachable(
                f"cannot connect: {_reason(cause)}", where=self.where, remedy=_remedy(cause, self.alternative)
            )
        kind = errors.OutcomeUnknown if changes else errors.Unreachable
        return kind(f"{doing} was interrupted: {type(cause).__name__}", where=self.where)


def _address(host: str, certificates: Path | None) -> tuple[str, ssl.SSLContext | None]:
    """Return the URL and the TLS settings for aiohttp. Raises `Refused`."""
    parts = urlsplit(host)
    if parts.scheme == "unix" and parts.path:
        return f"unix://{parts.path}", None
    if parts.scheme == "ssh":
        remedy = "forward its socket (ssh -L), and use that address"
        raise errors.Refused("ssh is not supported", where=host, remedy=remedy)
    try:
        valid = parts.scheme in ("tcp", "http", "https") and parts.hostname and parts.port
    except ValueError:
        valid = None
    if not valid:
        raise errors.Refused("this is not the address of an Engine", where=host, remedy=FORM)
    if certificates is None and parts.scheme != "https":
        return f"http://{parts.netloc}", None
    return f"https://{parts.netloc}", _tls(host, certificates)


def _tls(host: str, certificates: Path | None) -> ssl.SSLContext:
    try:
        if certificates is None:
            return ssl.create_default_context()
        context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    except (OSError, ssl.SSLError) as error:
        where = quote(str(certificates), safe="/")
        remedy = f"put ca.pem, cert.pem and key.pem into {where}"
        raise errors.Refused(f"its certificates cannot be read: {error}", where=host, remedy=remedy) from None
    return context


def _reason(error: OSError | Exception) -> str:
    number = getattr(error, "errno", None) or 0
    return os.strerror(number) if number > 0 else getattr(error, "strerror", None) or type(error).__name__


def _remedy(error: Exception, alternative: str) -> str:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PermissionError):
        return "give this user access to the socket, for example by the group docker"
    return f"start it, or {alternative}"


def _failures() -> tuple[type[Exception], ...]:
    import aiodocker
    import aiohttp

    return aiodocker.DockerError, aiohttp.ClientError, OSError, ValueError
