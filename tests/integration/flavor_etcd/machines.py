"""Machines that run nothing but the boot script of the flavor, each at a loopback address, with a volume of its own."""

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

PATIENCE_S = 150.0
QUICK = ["--heartbeat-interval=50", "--election-timeout=500", "--logger=zap", "--log-level=error"]


async def until(blocked: Callable[[], object], what: str) -> None:
    """Look again and again, for a while."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not blocked():  # noqa: ASYNC110 - processes set no events
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}") from None


class Machine:
    """One address with its volume; its processes come and go."""

    def __init__(self, volume: Path) -> None:
        self.address = LogicalID(address())
        self.volume = volume
        self.client = Etcd([f"http://{self.address}:2379"], deadline_s=3.0)
        self.process: asyncio.subprocess.Process | None = None

    @property
    def has_log(self) -> bool:
        """Whether etcd has ever started here."""
        return (self.volume / "member" / "wal").exists()

    @property
    def said(self) -> str:
        path = self.volume.with_suffix(".log")
        return path.read_text() if path.exists() else ""

    async def boot(self, declared: "Sequence[Machine]", **properties: Any) -> None:
        """Start what the flavor prepares for it; what it says begins anew."""
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
        """All of its processes at once, as when a machine loses power."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()
            self.process = None

    def lose_volume(self) -> Path:
        """An empty one takes its place; returns where the old one is."""
        old = self.volume.with_suffix(".lost")
        self.volume.rename(old)
        self.volume.mkdir(mode=0o700)
        return old

    async def says(self, words: str) -> None:
        """Wait until it has said so."""
        try:
            await until(lambda: words in self.said, words)
        except AssertionError as late:
            raise AssertionError(f"{late}; {self.address} said:\n{self.said[-3000:]}") from None

    async def serves(self) -> Member:
        """Wait until it answers as a healthy member; returns what the list says of it."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with contextlib.suppress(errors.InfraKitError):
                        if await self.client.health():
                            own = (await self.client.status()).member
                            return next(m for m in await self.client.members() if m.id == own)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.address} does not serve; it said:\n{self.said[-3000:]}") from None

    async def write(self, key: str, value: str) -> None:
        await self.client.change("kv/put", {"key": encode(key), "value": encode(value)})

    async def read(self, key: str, *, local: bool = False) -> str | None:
        """`local`: as this member has it, whatever the others say."""
        answer = await self.client.read("kv/range", {"key": encode(key), "serializable": local})
        found = answer.get("kvs", ())
        return decode(found[0]["value"]).decode() if found else None


@contextlib.asynccontextmanager
async def machines(count: int, directory: Path) -> AsyncIterator[list[Machine]]:
    """Machines that are off, and are off again in the end."""
    made = []
    for number in range(count):
        volume = directory / f"v{number}"
        volume.mkdir(mode=0o700)
        made.append(Machine(volume))
    try:
        yield made
    finally:
        for machine in made:
            await machine.client.close()
            await machine.kill()


async def found(machines_: Sequence[Machine], **properties: Any) -> list[Member]:
    """Boot all at once, from nothing; returns what each is listed as."""
    for machine in machines_:
        await machine.boot(machines_, **properties)
    return [await machine.serves() for machine in machines_]
