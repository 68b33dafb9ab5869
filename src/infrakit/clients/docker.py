"""One Docker Engine, by aiodocker (the extra `docker`), which is imported when it is used.

Of the asynchronous clients it is the one that follows new releases of the Engine and of Python, and it stands on
aiohttp, which is here anyway. It is used for the conversation; what a failure lets the caller conclude is decided here:
what was surely not sent is `Unreachable`, a change without an answer is `OutcomeUnknown`, and an answer is final.

An Engine is named as its own tools name it: `unix:///var/run/docker.sock`, or `tcp://HOST:PORT`, with TLS when
certificates are given.
"""

import asyncio
import importlib.util
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from infrakit.spi import errors

T = TypeVar("T")

DEFAULT = "unix:///var/run/docker.sock"
READ_S = 15.0
CHANGE_S = 60.0
CONNECT_S = 5.0
LOG_BYTES_MAX = 4 * 1024 * 1024
FORM = "write unix:///PATH or tcp://HOST:PORT"

_NOT_CONNECTED = 900  # what aiodocker calls every failure below HTTP
_TAKEN = ("already in use", "already allocated", "in progress", "is in use")

Filters = Mapping[str, Sequence[str]]


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container in a listing."""

    id: str
    name: str
    image: str
    state: str  # created, running, paused, restarting, removing, exited, dead
    status: str  # in words: `Up 3 minutes (unhealthy)`
    created: int  # seconds since 1970, by the Engine's clock
    labels: dict[str, str]
    addresses: dict[str, str]  # by network
    mounts: dict[str, str]  # named volume -> where it is mounted


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What an image runs unless it is told otherwise."""

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network, and the addresses that it gives."""

    name: str
    subnets: tuple[str, ...]


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A named volume."""

    name: str
    labels: dict[str, str]


class Engine:
    """A client of one Engine. What may be raised by every method stands at the top; each is one request."""

    def __init__(self, host: str = DEFAULT, *, certificates: Path | None = None) -> None:
        """Asks nothing yet. `certificates` holds ca.pem, cert.pem and key.pem. Raises `Refused`."""
        self.where = host
        if importlib.util.find_spec("aiodocker") is None:
            raise errors.Refused(
                "the client of Docker is not installed", where=host, remedy="pip install 'infrakit[docker]'"
            )
        self._url, self._tls = _address(host, certificates)
        self._client: Any = None
        self._opening = asyncio.Lock()

    # -- containers ------------------------------------------------------------------------------------------------

    async def containers(self, filters: Filters) -> list[Container]:
        """All that match, dead ones too."""
        options = {"all": True, "filters": json.dumps(filters)}
        return [_container(each) for each in await self._read(lambda d: _shown(d.containers.list(**options)))]

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Its ID. Raises `Conflict` if the name is taken, `NotFound` if the image is missing, `Refused`."""
        made = await self._change("creating", lambda d: d.containers.create(dict(config), name=name))
        return str(made.id)

    async def upload(self, container: str, archive: bytes) -> None:
        """Unpack a tar at its root."""
        await self._change("uploading", lambda d: d.containers.container(container).put_archive("/", archive))

    async def start(self, container: str) -> None:
        """Nothing, if it runs already. Any error that is an answer means: it does not run."""
        await self._change("starting", lambda d: d.containers.container(container).start())

    async def stop(self, container: str, *, grace_s: int | None) -> None:
        """By its stop signal, and KILL after its grace; None: its own."""
        await self._change(
            "stopping",
            lambda d: d.containers.container(container).stop(t=grace_s),
            deadline_s=CHANGE_S * 2,
        )

    async def remove(self, container: str) -> None:
        """Kill it if it runs; its anonymous volumes go with it, named ones stay. Raises `NotFound`, `Conflict`."""
        await self._change("removing", lambda d: d.containers.container(container).delete(force=True, v=True))

    async def logs(self, container: str, *, lines: int) -> str:
        """The last of what it printed. Raises `NotFound`."""

        async def read(client: Any) -> str:
            found = await client.containers.container(container).log(stdout=True, stderr=True, tail=lines)
            return "".join(found)[-LOG_BYTES_MAX:]

        return await self._read(read)

    # -- what they are made of -------------------------------------------------------------------------------------

    async def image(self, name: str) -> Image:
        """Raises `NotFound`."""
        found = await self._read(lambda d: d.images.inspect(name))
        config = found.get("Config") or {}
        return Image(entrypoint=tuple(config.get("Entrypoint") or ()), cmd=tuple(config.get("Cmd") or ()))

    async def network(self, name: str) -> Network | None:
        """None: there is none of that name."""
        found = await self._read(lambda d: d.networks.list(filters={"name": [name]}))
        for each in found:
            if each["Name"] == name:
                subnets = tuple(s["Subnet"] for s in (each.get("IPAM") or {}).get("Config") or () if s.get("Subnet"))
                return Network(name=name, subnets=subnets)
        return None

    async def create_network(self, config: Mapping[str, Any]) -> None:
        """Raises `Conflict` if there is one, `Refused` if its addresses are taken."""
        await self._change("creating a network", lambda d: d.networks.create({**config, "CheckDuplicate": True}))

    async def volumes(self, filters: Filters) -> list[Volume]:
        """All that match."""
        found = await self._read(lambda d: d.volumes.list(filters=filters))
        if found.get("Warnings"):  # of drivers that did not answer: then some may be left out
            raise errors.Unreachable(f"its list of volumes is not whole: {found['Warnings'][0]}", where=self.where)
        return [Volume(name=each["Name"], labels=each.get("Labels") or {}) for each in found.get("Volumes") or ()]

    async def create_volume(self, name: str, *, labels: Mapping[str, str]) -> Volume:
        """The volume of that name: an older one, with other labels, if there was one."""
        config = {"Name": name, "Labels": dict(labels)}

        async def make(client: Any) -> Volume:
            shown = await (await client.volumes.create(config)).show()
            return Volume(name=name, labels=shown.get("Labels") or {})

        return await self._change("creating a volume", make)

    async def remove_volume(self, name: str) -> None:
        """Raises `NotFound`, `Conflict` while a container has it, also a dead one."""
        from aiodocker.volumes import DockerVolume

        await self._change("removing a volume", lambda d: DockerVolume(d, name).delete())

    async def events(self, filters: Filters) -> AsyncIterator[Mapping[str, Any]]:
        """What happens from now on, until the stream breaks: then `Unreachable`."""
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
        """End every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- asking ----------------------------------------------------------------------------------------------------

    async def _open(self) -> Any:
        """The client, which knows the Engine's version by then: from here on, what fails is what was asked."""
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

    async def _read(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(READ_S):
                return await ask(await self._open())
        except TimeoutError:
            raise errors.Unreachable(f"no answer within {READ_S:g} s", where=self.where) from None
        except _failures() as error:
            raise self._failed(error, "reading", changes=False) from None

    async def _change(self, doing: str, ask: Callable[[Any], Awaitable[T]], *, deadline_s: float = CHANGE_S) -> T:
        sent = False
        try:
            async with asyncio.timeout(deadline_s):
                client = await self._open()
                sent = True
                return await ask(client)
        except TimeoutError:
            kind = errors.OutcomeUnknown if sent else errors.Unreachable
            raise kind(f"{doing}: no answer within {deadline_s:g} s", where=self.where) from None
        except _failures() as error:
            raise self._failed(error, doing, changes=sent) from None

    # -- failures, as what they let the caller conclude --------------------------------------------------------------

    def _failed(self, error: Exception, doing: str, *, changes: bool) -> errors.InfraKitError:
        import aiodocker
        import aiohttp

        if isinstance(error, aiodocker.DockerError) and error.status != _NOT_CONNECTED:
            return self._answered(error.status, error.message.strip(), doing)
        cause = error.__context__ if isinstance(error, aiodocker.DockerError) else error
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return errors.Unreachable(f"cannot connect: {_reason(cause)}", where=self.where, remedy=_remedy(cause))
        kind = errors.OutcomeUnknown if changes else errors.Unreachable
        return kind(f"{doing} was interrupted: {type(cause).__name__}", where=self.where)

    def _answered(self, status: int, message: str, doing: str) -> errors.InfraKitError:
        """An error answer. The Engine's numbers are not exact: taken addresses and ports are 403 or 500."""
        low = message.lower()
        if status == 404:
            return errors.NotFound(message, where=self.where)
        if status == 409 or any(each in low for each in _TAKEN):
            return errors.Conflict(message, where=self.where, remedy="it is asked for again when that one is gone")
        if status == 429:
            return errors.Throttled(message, after_s=1.0, where=self.where)
        if status == 503:
            return errors.Unreachable(message, where=self.where)
        return errors.Refused(f"{doing} was refused: {message}", where=self.where)


async def _shown(listing: Awaitable[Sequence[Any]]) -> list[Mapping[str, Any]]:
    return [each._container for each in await listing]  # noqa: SLF001 - the answer itself: it has no other name


def _container(shown: Mapping[str, Any]) -> Container:
    networks = (shown.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = {name: str((each or {}).get("IPAddress") or "") for name, each in networks.items()}
    mounts = shown.get("Mounts") or ()
    return Container(
        id=shown["Id"],
        name=(shown.get("Names") or ["/"])[0].lstrip("/"),
        image=shown.get("Image", ""),
        state=shown.get("State", ""),
        status=shown.get("Status", ""),
        created=int(shown.get("Created", 0)),
        labels=shown.get("Labels") or {},
        addresses={name: address for name, address in addresses.items() if address},
        mounts={each["Name"]: each["Destination"] for each in mounts if each.get("Type") == "volume"},
    )


def _address(host: str, certificates: Path | None) -> tuple[str, ssl.SSLContext | None]:
    """What aiohttp connects to, and how."""
    parts = urlsplit(host)
    if parts.scheme == "unix" and parts.path:
        return f"unix://{parts.path}", None
    if parts.scheme == "ssh":
        remedy = "forward its socket (ssh -L), and name that"
        raise errors.Refused("ssh is not spoken here", where=host, remedy=remedy)
    try:
        reachable = parts.scheme in ("tcp", "http", "https") and parts.hostname and parts.port
    except ValueError:
        reachable = None
    if not reachable:
        raise errors.Refused("that is no address of an Engine", where=host, remedy=FORM)
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


def _remedy(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PermissionError):
        return "whoever runs this needs access to its socket, as members of the group docker have"
    return "start it, or name another one in DOCKER_HOST"


def _failures() -> tuple[type[Exception], ...]:
    import aiodocker
    import aiohttp

    return aiodocker.DockerError, aiohttp.ClientError, OSError, ValueError
