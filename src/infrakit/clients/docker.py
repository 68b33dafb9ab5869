"""Containers of one Docker Engine, with their networks and volumes. The transport is in `clients/dockerd.py`."""

import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import msgspec

from infrakit.clients.dockerd import CHANGE_S, EngineClient, Filters
from infrakit.spi import errors

LOG_BYTES_MAX = 4 * 1024 * 1024

_CONFLICTS = ("already in use", "already allocated", "in progress", "is in use")


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container in a listing."""

    id: str
    name: str
    image: str
    state: str  # created, running, paused, restarting, removing, exited, dead
    status: str  # for people: `Up 3 minutes (unhealthy)`
    created: int  # seconds since 1970, by the Engine's clock
    labels: dict[str, str]
    addresses: dict[str, str]  # by network
    mounts: dict[str, str]  # named volume -> mount point


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """The default command of an image."""

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network and its subnets."""

    name: str
    subnets: tuple[str, ...]


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A named volume."""

    name: str
    labels: dict[str, str]


class Engine(EngineClient):
    """A client of one Engine. Each method is one request, and may raise `Unreachable`; a change `OutcomeUnknown`."""

    # -- containers ------------------------------------------------------------------------------------------------

    async def containers(self, filters: Filters) -> list[Container]:
        """Return all containers that match, also exited ones."""
        options = {"all": True, "filters": json.dumps(filters)}
        return [_container(each) for each in await self._read(lambda d: _shown(d.containers.list(**options)))]

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container and return its ID.

        Raises `Conflict` if the name is taken, `NotFound` if the image is missing, `Refused`.
        """
        created = await self._change("creating", lambda d: d.containers.create(dict(config), name=name))
        return str(created.id)

    async def upload(self, container: str, archive: bytes) -> None:
        """Unpack a tar archive at the root of the container."""
        await self._change("uploading", lambda d: d.containers.container(container).put_archive("/", archive))

    async def start(self, container: str) -> None:
        """Start the container, if it does not run. Any error response means that it does not run."""
        await self._change("starting", lambda d: d.containers.container(container).start())

    async def stop(self, container: str, *, grace_s: int | None) -> None:
        """Send the stop signal, then KILL after the grace period; None: the container's own grace period."""
        await self._change(
            "stopping",
            lambda d: d.containers.container(container).stop(t=grace_s),
            deadline_s=CHANGE_S * 2,
        )

    async def remove(self, container: str) -> None:
        """Kill and remove the container and its anonymous volumes, not named ones. Raises `NotFound`, `Conflict`."""
        await self._change("removing", lambda d: d.containers.container(container).delete(force=True, v=True))

    async def logs(self, container: str, *, lines: int) -> str:
        """Return the last lines of the container's output. Raises `NotFound`."""

        async def read(client: Any) -> str:
            found = await client.containers.container(container).log(stdout=True, stderr=True, tail=lines)
            return "".join(found)[-LOG_BYTES_MAX:]

        return await self._read(read)

    async def identity(self) -> str:
        """Return the ID that the Engine has generated for itself."""
        return str((await self._read(lambda d: d.system.info())).get("ID") or "")

    # -- images, networks, volumes ---------------------------------------------------------------------------------

    async def image(self, name: str) -> Image:
        """Return the default command of an image. Raises `NotFound`."""
        found = await self._read(lambda d: d.images.inspect(name))
        config = found.get("Config") or {}
        return Image(entrypoint=tuple(config.get("Entrypoint") or ()), cmd=tuple(config.get("Cmd") or ()))

    async def network(self, name: str) -> Network | None:
        """Return the network of that name; None if it does not exist."""
        found = await self._read(lambda d: d.networks.list(filters={"name": [name]}))
        for each in found:
            if each["Name"] == name:
                subnets = tuple(s["Subnet"] for s in (each.get("IPAM") or {}).get("Config") or () if s.get("Subnet"))
                return Network(name=name, subnets=subnets)
        return None

    async def create_network(self, config: Mapping[str, Any]) -> None:
        """Create a network. Raises `Conflict` if it exists, `Refused` if its addresses are taken."""
        await self._change("creating a network", lambda d: d.networks.create({**config, "CheckDuplicate": True}))

    async def volumes(self, filters: Filters) -> list[Volume]:
        """Return all volumes that match."""
        found = await self._read(lambda d: d.volumes.list(filters=filters))
        if found.get("Warnings"):  # from drivers that did not answer, whose volumes may be missing
            raise errors.Unreachable(f"its list of volumes is incomplete: {found['Warnings'][0]}", where=self.where)
        return [Volume(name=each["Name"], labels=each.get("Labels") or {}) for each in found.get("Volumes") or ()]

    async def create_volume(self, name: str, *, labels: Mapping[str, str]) -> Volume:
        """Create a volume, or return the existing one of that name, which may have other labels."""
        config = {"Name": name, "Labels": dict(labels)}

        async def make(client: Any) -> Volume:
            raw = await (await client.volumes.create(config)).show()
            return Volume(name=name, labels=raw.get("Labels") or {})

        return await self._change("creating a volume", make)

    async def remove_volume(self, name: str) -> None:
        """Remove a volume. Raises `NotFound`, and `Conflict` while a container uses it, also an exited one."""
        from aiodocker.volumes import DockerVolume

        await self._change("removing a volume", lambda d: DockerVolume(d, name).delete())

    def _response_error(self, status: int, message: str, doing: str, *, changes: bool) -> errors.InfraKitError:
        """Translate an error response. The Engine's status codes are inexact: a taken address or port is 403 or 500."""
        del changes  # an error response means in either case that nothing was done
        lower = message.lower()
        if status == 404:
            return errors.NotFound(message, where=self.where)
        if status == 409 or any(each in lower for each in _CONFLICTS):
            return errors.Conflict(message, where=self.where, remedy="it is retried once that one is removed")
        if status == 429:
            return errors.Throttled(message, after_s=1.0, where=self.where)
        if status == 503:
            return errors.Unreachable(message, where=self.where)
        return errors.Refused(f"{doing} was refused: {message}", where=self.where)


async def _shown(listing: Awaitable[Sequence[Any]]) -> list[Mapping[str, Any]]:
    return [each._container for each in await listing]  # noqa: SLF001 - the raw response, which has no public name


def _container(raw: Mapping[str, Any]) -> Container:
    networks = (raw.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = {name: str((each or {}).get("IPAddress") or "") for name, each in networks.items()}
    mounts = raw.get("Mounts") or ()
    return Container(
        id=raw["Id"],
        name=(raw.get("Names") or ["/"])[0].lstrip("/"),
        image=raw.get("Image", ""),
        state=raw.get("State", ""),
        status=raw.get("Status", ""),
        created=int(raw.get("Created", 0)),
        labels=raw.get("Labels") or {},
        addresses={name: address for name, address in addresses.items() if address},
        mounts={each["Name"]: each["Destination"] for each in mounts if each.get("Type") == "volume"},
    )
