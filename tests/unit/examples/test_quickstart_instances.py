"""The quickstart with its real plugins: instances are prepared, created, healthy, killed and recreated."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.flavors.vanilla import Vanilla
from infrakit.instances.local import Local
from infrakit.spec import document
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import (
    TAG_GROUP,
    TAG_SLOT,
    Allocation,
    Description,
    GroupID,
    Health,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
)

DECLARATION = Path(__file__).parents[3] / "examples/quickstart/infrakit.yaml"
GROUPS = {each.name: each.properties for each in document.parse(DECLARATION.read_text(), source="infrakit.yaml")}
# Used by this process only.
ADDRESS = LogicalID(f"127.{(os.getpid() >> 16) % 100 + 1}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}")


@pytest.fixture
async def local() -> AsyncIterator[Local]:
    directory = tempfile.mkdtemp(prefix="ik", dir="/tmp")
    provider = Local(Path(directory))
    yield provider
    for each in await provider.describe_instances(tags={}):
        await provider.destroy(instance=each.id, context=DestroyContext())
    await provider.close()
    shutil.rmtree(directory)


@pytest.fixture
async def vanilla() -> AsyncIterator[Vanilla]:
    flavor = Vanilla()
    yield flavor
    await flavor.close()


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def flavor_properties(group: str) -> dict[str, Any]:
    declared: dict[str, Any] = msgspec.json.decode(GROUPS[GroupID(group)].flavor.properties)
    return declared


async def wait_until_healthy(vanilla: Vanilla, properties: dict[str, Any], instance: Description) -> None:
    """Wait until the instance is healthy; the timeout of the test is the limit."""
    declared = raw(properties)
    while (await vanilla.healthy(properties=declared, instance=instance)).health is not Health.HEALTHY:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def described(local: Local, name: InstanceID) -> Description:
    return next(each for each in await local.describe_instances(tags={}) if each.id == name)


async def request(host: str, port: int, line: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"{line} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    facts: dict[str, Any] = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
    return facts


async def test_a_worker_listens_at_its_own_port(local: Local, vanilla: Vanilla) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    properties = flavor_properties("web") | {"Port": {"Base": port - 2}}
    prepared = await vanilla.prepare(
        properties=raw(properties),
        spec=InstanceSpec(
            properties=GROUPS[GroupID("web")].instance.properties, tags={TAG_GROUP: "web", TAG_SLOT: "2"}
        ),
        allocation=Allocation(size=3),
        index=Index(group=GroupID("web"), sequence=2),
    )
    worker = await described(local, await local.provision(spec=prepared))
    await wait_until_healthy(vanilla, properties, worker)
    facts = await request("127.0.0.1", port, "GET /")
    assert (facts["worker"], facts["version"]) == (2, "1")


async def test_a_pet_is_recreated_with_its_address_and_data(local: Local, vanilla: Vanilla) -> None:
    properties = flavor_properties("counter")
    properties["Attachments"] = {ADDRESS: properties["Attachments"]["127.0.10.2"]}

    async def create() -> Description:
        spec = InstanceSpec(
            properties=GROUPS[GroupID("counter")].instance.properties, tags={TAG_GROUP: "counter"}, logical_id=ADDRESS
        )
        allocation = Allocation(logical_ids=(ADDRESS,))
        index = Index(group=GroupID("counter"), sequence=1)
        prepared = await vanilla.prepare(properties=raw(properties), spec=spec, allocation=allocation, index=index)
        pet = await described(local, await local.provision(spec=prepared))
        await wait_until_healthy(vanilla, properties, pet)
        return pet

    first = await create()
    for _ in range(3):
        await request(ADDRESS, 7070, "POST /incr")
    before = await request(ADDRESS, 7070, "GET /")
    os.kill(before["pid"], signal.SIGKILL)
    while await local.inspect(instance=first.id) is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    second = await create()
    after = await request(ADDRESS, 7070, "GET /")
    assert first.id != second.id
    assert (after["address"], after["value"], after["boots"]) == (ADDRESS, 3, 2)
