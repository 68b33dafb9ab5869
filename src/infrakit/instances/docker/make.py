"""Creates an instance: creates the container under a name derived from its token, checks for conflicts, starts it.

The Engine guarantees that a name is unique, but not a logical ID or the use of a volume. So a container is created with
its claims in its labels, and is started only after a listing shows no other running instance with the same claims. If
two are created concurrently, the one that lists later detects the other: both may be removed, but never both started.
A retry with the same token starts a container that was created and not started; after `ABANDONED_S` it counts as
terminated.
"""

import asyncio
from collections.abc import Iterable

from infrakit.clients.docker import Engine, Image, Network
from infrakit.instances.docker import config, records
from infrakit.instances.docker.properties import Properties
from infrakit.instances.docker.records import ContainerRecord
from infrakit.spi import errors
from infrakit.spi.values import Attachment, InstanceID, InstanceSpec, State

_POLLS, _POLL_S = 10, 0.1


async def create(engine: Engine, id_: InstanceID, spec: InstanceSpec, declared: Properties, *, now: float) -> str:
    """Create the container and return its ID, without starting it. Raises `Refused`.

    Returns the existing container if an earlier call with the same token has created it.
    """
    image = await _image(engine, declared.image) if spec.init.strip() else None
    await _prepare_network_and_volumes(engine, spec, declared)
    try:
        return await engine.create(id_, config.container(id_, spec, declared, image))
    except errors.NotFound:
        raise _missing(declared.image) from None
    except errors.Conflict as conflict:
        first = (await list_instances(engine, now=now)).get(id_)
        if first is None:
            remedy = "the creation is retried; if InfraKit did not create that container, remove it"
            raise errors.Conflict(f"the name {id_} is taken: {conflict.what}", where="docker", remedy=remedy) from None
        return first.container.id


async def complete(
    engine: Engine, id_: InstanceID, container: str, spec: InstanceSpec, declared: Properties, *, now: float
) -> None:
    """Start the container, or remove it. Raises `Conflict` or `Refused` after it has been removed."""
    try:
        if spec.init.strip():
            readable = declared.user not in ("", "root", "0")
            await engine.upload(container, config.script(spec.init, readable=readable))
        refuse_duplicate(id_, spec, (await list_instances(engine, now=now)).values())
        await engine.start(container)
    except (errors.Conflict, errors.Refused, errors.NotFound) as error:
        await _remove_unstarted(engine, id_, container)
        if isinstance(error, errors.NotFound):
            remedy = "create the network, or declare Network.Create" if "network" in error.what else ""
            raise errors.Refused(error.what, where=id_, remedy=remedy) from None
        raise


async def _remove_unstarted(engine: Engine, id_: InstanceID, container: str) -> None:
    try:
        await engine.remove(container)
    except errors.NotFound:
        return
    except errors.InfraKitError as error:
        what = f"the container was created, could not be started, and is not removed yet: {error.what}"
        raise errors.OutcomeUnknown(what, where=id_) from None


async def list_instances(engine: Engine, *, now: float) -> dict[InstanceID, ContainerRecord]:
    """List all instances of this Engine, by ID."""
    return records.records(await engine.containers({"label": [records.ID]}), now=now)


def refuse_duplicate(id_: InstanceID, spec: InstanceSpec, there: Iterable[ContainerRecord]) -> None:
    """Raise `Conflict` if another instance that is not terminated has the logical ID or holds an attachment."""
    wanted = set(spec.attachments or ())
    for each in there:
        if each.id == id_ or not each.is_live:
            continue
        how = "is stopping and still " if each.state is State.STOPPING else ""
        same_id = spec.logical_id and each.logical_id == spec.logical_id
        claims = [f"has the logical ID {each.logical_id}"] if same_id else []
        claims += [f"holds the {held.type} {held.id}" for held in sorted(wanted & set(each.attachments), key=_by_id)]
        if claims:
            remedy = "wait until it has terminated" if how else "destroy that instance first"
            raise errors.Conflict(f"{each.id} {how}{' and '.join(claims)}", where=id_, remedy=remedy)


def _by_id(attachment: Attachment) -> str:
    return attachment.id


def exited(spec: InstanceSpec, there: Iterable[ContainerRecord]) -> list[ContainerRecord]:
    """Return the terminated instances with the same claims.

    They are removed before their replacement starts, because `docker start` could restart them.
    """
    wanted = set(spec.attachments or ())
    return [
        each
        for each in there
        if not each.is_live
        and ((spec.logical_id is not None and each.logical_id == spec.logical_id) or wanted & set(each.attachments))
    ]


async def _image(engine: Engine, name: str) -> Image:
    try:
        return await engine.image(name)
    except errors.NotFound:
        raise _missing(name) from None


def _missing(image: str) -> errors.Refused:
    return errors.Refused(
        f"the Engine has no image {image}",
        where="docker",
        remedy=f"provide it first: docker pull {image}, or docker load, or docker import",
    )


async def _prepare_network_and_volumes(engine: Engine, spec: InstanceSpec, declared: Properties) -> None:
    """Create the network if that is declared, and check that required volumes exist. The Engine creates the others."""
    body = config.network(declared)
    if body is not None:
        await _network(engine, body)
    must_exist = [a.id for a, to in zip(spec.attachments or (), declared.volumes, strict=False) if not to.create]
    if must_exist:
        there = {each.name for each in await engine.volumes({})}
        if missing := [each for each in must_exist if each not in there]:
            remedy = "restore it, or create it: docker volume create"
            raise errors.Refused(f"there is no volume {', '.join(missing)}", where="docker", remedy=remedy)


async def _network(engine: Engine, body: dict[str, object]) -> None:
    name = str(body["Name"])
    found = await engine.network(name)
    if found is None:
        try:
            await engine.create_network(body)
        except (errors.Conflict, errors.Refused) as error:
            found = await _created_concurrently(engine, name)
            if found is None:
                remedy = "choose another Subnet, or remove the network that uses it"
                raise errors.Refused(error.what, where=f"network {name}", remedy=remedy) from None
    ipam = body["IPAM"]
    wanted = {pool["Subnet"] for pool in ipam["Config"]} if isinstance(ipam, dict) else set()
    if found is not None and not wanted <= set(found.subnets):
        has = ", ".join(found.subnets) or "none"
        what = f"its subnet is {has}, and {', '.join(wanted)} is declared"
        raise errors.Refused(what, where=f"network {name}", remedy="remove it, or declare its actual subnet")


async def _created_concurrently(engine: Engine, name: str) -> Network | None:
    """Wait for a network that another process is creating: its addresses are taken before it is listed."""
    for _ in range(_POLLS):
        found = await engine.network(name)
        if found is not None:
            return found
        await asyncio.sleep(_POLL_S)
    return None
