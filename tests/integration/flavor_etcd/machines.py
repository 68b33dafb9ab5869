"""Machines that run only the boot script of the flavor, each with its own loopback address and volume."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from infrakit.clients.etcd import Etcd, Member, decode, encode
from infrakit.flavors.etcd import EtcdFlavor
from infrakit.spi import errors
from infrakit.spi.values import Allocation, GroupID, Index, InstanceSpec, LogicalID
from tests.integration.etcd.members import address

TIMEOUT_S = 150.0
QUICK = ["--heartbeat-interval=50", "--election-timeout=500", "--logger=zap", "--log-level=error"]


async def until(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition is true, or fail after the timeout."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():  # noqa: ASYNC110 - processes set no events
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {TIMEOUT_S:.0f} s: {what}") from None


class Machine:
    """One address and its volume; processes are started and killed on it."""

    def __init__(self, volume: Path) -> None:
        self.address = LogicalID(address())
        self.volume = volume
        self.client = Etcd([f"http://{self.address}:2379"], deadline_s=3.0)
        self.process: asyncio.subprocess.Process | None = None

    @property
    def has_log(self) -> bool:
        """Whether etcd has ever started on this volume."""
        return (self.volume / "member" / "wal").exists()

    @property
    def output(self) -> str:
        path = self.volume.with_suffix(".log")
        return path.read_text() if path.exists() else ""

    async def boot(self, declared: "Sequence[Machine]", **properties: Any) -> None:
        """Start the boot script that the flavor prepares, with an empty log."""
        flavor = EtcdFlavor()
        spec = await flavor.prepare(
            properties=msgspec.Raw(msgspec.json.encode({"ExtraArgs": QUICK} | properties)),
            spec=InstanceSpec(logical_id=self.address),
            allocation=Allocation(logical_ids=tuple(each.address for each in declared)),
            index=Index(group=GroupID("db"), sequence=1),
        )
        script = self.volume.with_suffix(".sh")
        script.write_text(spec.init)
        with self.volume.with_suffix(".log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *("sh", str(script)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "INFRAKIT_VOLUME": str(self.volume)},
                start_new_session=True,
            )

    async def kill(self) -> None:
        """Kill all of its processes at once, like a power failure."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
            self.process = None

    def lose_volume(self) -> Path:
        """Replace the volume by an empty one; return the path of the old one."""
        old = self.volume.with_suffix(".lost")
        self.volume.rename(old)
        self.volume.mkdir(mode=0o700)
        return old

    async def wait_for_output(self, text: str) -> None:
        """Wait until the boot script has printed the text."""
        try:
            await until(lambda: text in self.output, text)
        except AssertionError as late:
            raise AssertionError(f"{late}; output of {self.address}:\n{self.output[-3000:]}") from None

    async def wait_until_healthy(self) -> Member:
        """Wait until the member is healthy; return its entry in the member list."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    with contextlib.suppress(errors.InfraKitError):
                        if await self.client.health():
                            own = (await self.client.status()).member
                            return next(m for m in await self.client.members() if m.id == own)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.address} is not healthy; its output:\n{self.output[-3000:]}") from None

    async def write(self, key: str, value: str) -> None:
        await self.client.change("kv/put", {"key": encode(key), "value": encode(value)})

    async def read(self, key: str, *, local: bool = False) -> str | None:
        """The value of a key; `local`: from this member's own data, without consulting the quorum."""
        answer = await self.client.read("kv/range", {"key": encode(key), "serializable": local})
        values = answer.get("kvs", ())
        return decode(values[0]["value"]).decode() if values else None


@contextlib.asynccontextmanager
async def machines(count: int, directory: Path) -> AsyncIterator[list[Machine]]:
    """Machines on which nothing runs; their processes are killed at exit."""
    created = []
    for number in range(count):
        volume = directory / f"v{number}"
        volume.mkdir(mode=0o700)
        created.append(Machine(volume))
    try:
        yield created
    finally:
        for machine in created:
            await machine.client.close()
            await machine.kill()


async def bootstrap(machines_: Sequence[Machine], **properties: Any) -> list[Member]:
    """Boot all machines at once with empty volumes; return their entries in the member list."""
    for machine in machines_:
        await machine.boot(machines_, **properties)
    return [await machine.wait_until_healthy() for machine in machines_]
