"""Helpers for tests of the provider `local`: short specs, waiting for conditions, and counting remaining processes."""

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from infrakit.instances.local import Local
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec, LogicalID

RUNS_FOREVER = "exec sleep 1000"
DEADLINE_S = 120.0


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def spec(
    init: str = RUNS_FOREVER,
    *,
    token: str = "",
    logical_id: str | None = None,
    volumes: tuple[str, ...] = (),
    tags: dict[str, str] | None = None,
    **properties: Any,
) -> InstanceSpec:
    return InstanceSpec(
        init=init,
        tags={**(tags or {}), **({"infrakit.token": token} if token else {})},
        logical_id=LogicalID(logical_id) if logical_id else None,
        attachments=tuple(Attachment(id=each, type="volume") for each in volumes),
        properties=raw(properties),
    )


async def destroy(local: Local, instance: str) -> None:
    await local.destroy(instance=InstanceID(instance), context=DestroyContext())


async def listed(local: Local, **tags: str) -> dict[str, Description]:
    return {each.id: each for each in await local.describe_instances(tags=tags)}


async def facts(local: Local, instance: str) -> dict[str, Any]:
    found = {each.id: each for each in await local.describe_instances(tags={}, properties=True)}[InstanceID(instance)]
    assert isinstance(found.properties, msgspec.Raw)
    decoded: dict[str, Any] = msgspec.json.decode(found.properties)
    return decoded


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Poll until the condition is true."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.01)


async def until_gone(local: Local, *instances: str) -> None:
    async def gone() -> bool:
        return not (await listed(local)).keys() & set(instances)

    await until(gone)


async def until_written(path: Path, text: str = "\n") -> str:
    """Wait until a file contains this text, and return its content."""

    async def written() -> bool:
        return text in content(path)

    await until(written)
    return content(path)


def content(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def survivors(directory: Path) -> list[int]:
    """Processes of this directory, except zombies and the test itself."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            named = str(directory).encode() in (entry / "environ").read_bytes()
            inside = str((entry / "cwd").readlink()).startswith(str(directory))
            if named or inside:
                found.append(int(entry.name))
    return found


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for_exit(pid: int) -> None:
    """Wait without running the loop, so that no provider has noticed the exit when this returns."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(DEADLINE_S * 1000)
    finally:
        os.close(pidfd)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
