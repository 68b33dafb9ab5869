"""Short specs, and waiting for conditions."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from infrakit.instances.docker import Docker
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec, LogicalID, State
from tests.integration.docker.engines import DEADLINE_S, IMAGE

KEEPS_RUNNING = "exec sleep 1000"
NETWORK = {"Name": "nodes", "Create": {"Subnet": "10.77.0.0/24"}}
ADDRESS = "10.77.0.11"


def spec(
    init: str = KEEPS_RUNNING,
    *,
    token: str = "",
    logical_id: str | None = None,
    volumes: tuple[str, ...] = (),
    tags: dict[str, str] | None = None,
    **properties: Any,
) -> InstanceSpec:
    given = {"Image": IMAGE, "StopTimeout": 0} | properties
    return InstanceSpec(
        init=init,
        tags={**(tags or {}), **({"infrakit.token": token} if token else {})},
        logical_id=LogicalID(logical_id) if logical_id else None,
        attachments=tuple(Attachment(id=each, type="volume") for each in volumes),
        properties=msgspec.Raw(msgspec.json.encode(given)),
    )


async def destroy(docker: Docker, instance: str) -> None:
    await docker.destroy(instance=InstanceID(instance), context=DestroyContext())


async def listed(docker: Docker, **tags: str) -> dict[str, Description]:
    return {each.id: each for each in await docker.describe_instances(tags=tags)}


async def state(docker: Docker, instance: str) -> State | None:
    found = await docker.inspect(instance=InstanceID(instance))
    return State(str(found.state)) if found is not None else None


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Poll until the condition is true."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - the Engine sets no event
            await asyncio.sleep(0.02)


async def until_logged(docker: Docker, instance: str, text: str) -> str:
    """Wait until the log contains the text, and return the log."""
    log = ""

    async def logged() -> bool:
        nonlocal log
        log = await docker.logs(instance=InstanceID(instance), lines=1000)
        return text in log

    try:
        await until(logged)
    except TimeoutError:
        raise AssertionError(f"{text!r} is not in {log!r}") from None
    return log
