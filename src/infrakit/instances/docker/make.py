"""Making an instance: created under a name that its token gives, looked at, then started.

The Engine keeps a name for one container, but a logical ID or a volume for nobody. So a container is created with
what it claims in its labels, and is started only once a listing shows that no other one that lives claims the same. Of
two that are created at the same time, whichever looks later sees the other: both may withdraw, both never stay.
What was created and never started is completed by whoever asks again with the same token; after a while it is dead.
"""

import asyncio
from collections.abc import Iterable

from infrakit.clients.docker import Engine, Image, Network
from infrakit.instances.docker import config, records
from infrakit.instances.docker.properties import Properties
from infrakit.instances.docker.records import Record
from infrakit.spi import errors
from infrakit.spi.values import Attachment, InstanceID, InstanceSpec, State

_LOOKS, _LOOK_S = 10, 0.1


async def create(engine: Engine, id_: InstanceID, spec: InstanceSpec, declared: Properties, *, now: float) -> str:
    """The container, not started; an older one if this very call has created one before. Raises `Refused`."""
    image = await _image(engine, declared.image) if spec.init.strip() else None
    await _prepare(engine, spec, declared)
    try:
        return await engine.create(id_, config.container(id_, spec, declared, image))
    except errors.NotFound:
        raise _missing(declared.image) from None
    except errors.Conflict as taken:
        first = (await look(engine, now=now)).get(id_)
        if first is None:
            remedy = "it is asked for again; if it is none of InfraKit's, remove it"
            raise errors.Conflict(f"the name {id_} is taken: {taken.what}", where="docker", remedy=remedy) from None
        return first.container.id


async def complete(
    engine: Engine, id_: InstanceID, container: str, spec: InstanceSpec, declared: Properties, *, now: float
) -> None:
    """Start it, or remove it again and say why. Raises `Conflict`, `Refused` when nothing of it is left."""
    try:
        if spec.init.strip():
            readable = declared.user not in ("", "root", "0")
            await engine.upload(container, config.script(spec.init, readable=readable))
        refuse_second(id_, spec, (await look(engine, now=now)).values())
        await engine.start(container)
    except (errors.Conflict, errors.Refused, errors.NotFound) as error:
        await _withdraw(engine, id_, container)
        if isinstance(error, errors.NotFound):
            remedy = "make the network, or declare Network.Create" if "network" in error.what else ""
            raise errors.Refused(error.what, where=id_, remedy=remedy) from None
        raise


async def _withdraw(engine: Engine, id_: InstanceID, container: str) -> None:
    try:
        await engine.remove(container)
    except errors.NotFound:
        return
    except errors.InfraKitError as error:
        what = f"it was created, could not be started, and is not removed yet: {error.what}"
        raise errors.OutcomeUnknown(what, where=id_) from None


async def look(engine: Engine, *, now: float) -> dict[InstanceID, Record]:
    """Every instance there is."""
    return records.records(await engine.containers({"label": [records.ID]}), now=now)


def refuse_second(id_: InstanceID, spec: InstanceSpec, there: Iterable[Record]) -> None:
    """Raise `Conflict` if another one that lives bears the logical ID or holds an attachment."""
    wanted = set(spec.attachments or ())
    for each in there:
        if each.id == id_ or not each.lives:
            continue
        how = "is leaving and still " if each.state is State.STOPPING else ""
        claims = [f"bears {each.logical_id}"] if spec.logical_id and each.logical_id == spec.logical_id else []
        claims += [f"holds the {held.type} {held.id}" for held in sorted(wanted & set(each.attachments), key=_by_id)]
        if claims:
            remedy = "wait until it is gone" if how else "destroy that one first"
            raise errors.Conflict(f"{each.id} {how}{' and '.join(claims)}", where=id_, remedy=remedy)


def _by_id(attachment: Attachment) -> str:
    return attachment.id


def corpses(spec: InstanceSpec, there: Iterable[Record]) -> list[Record]:
    """The dead that bore the same: they must be gone for good before a successor starts, or they could be started."""
    wanted = set(spec.attachments or ())
    return [
        each
        for each in there
        if not each.lives
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
        remedy=f"get it there first: docker pull {image}, or docker load, or docker import",
    )


async def _prepare(engine: Engine, spec: InstanceSpec, declared: Properties) -> None:
    """The network, if it may be made; and volumes that have to be there are. The Engine makes the others."""
    body = config.network(declared)
    if body is not None:
        await _network(engine, body)
    must_exist = [a.id for a, to in zip(spec.attachments or (), declared.volumes, strict=False) if not to.create]
    if must_exist:
        there = {each.name for each in await engine.volumes({})}
        if missing := [each for each in must_exist if each not in there]:
            remedy = "restore it, or make it by hand: docker volume create"
            raise errors.Refused(f"there is no volume {', '.join(missing)}", where="docker", remedy=remedy)


async def _network(engine: Engine, body: dict[str, object]) -> None:
    name = str(body["Name"])
    found = await engine.network(name)
    if found is None:
        try:
            await engine.create_network(body)
        except (errors.Conflict, errors.Refused) as error:
            found = await _made_by_another(engine, name)
            if found is None:
                remedy = "choose another Subnet, or remove the network that has it"
                raise errors.Refused(error.what, where=f"network {name}", remedy=remedy) from None
    ipam = body["IPAM"]
    wanted = {pool["Subnet"] for pool in ipam["Config"]} if isinstance(ipam, dict) else set()
    if found is not None and not wanted <= set(found.subnets):
        has = ", ".join(found.subnets) or "none"
        what = f"it has the addresses {has}, and {', '.join(wanted)} is declared"
        raise errors.Refused(what, where=f"network {name}", remedy="remove it, or declare what it has")


async def _made_by_another(engine: Engine, name: str) -> Network | None:
    """A network that is being made has its addresses before it is listed."""
    for _ in range(_LOOKS):
        found = await engine.network(name)
        if found is not None:
            return found
        await asyncio.sleep(_LOOK_S)
    return None
