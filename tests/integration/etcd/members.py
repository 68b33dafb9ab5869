"""Members of a real etcd, each with its own loopback address and data directory."""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from infrakit.clients.etcd import Etcd
from infrakit.spi import errors

UP_S = 30.0
_numbers = itertools.count(1)

needs_etcd = pytest.mark.skipif(shutil.which("etcd") is None, reason="needs etcd (Debian: apt install etcd-server)")


def address() -> str:
    """A loopback address that no other process of these tests uses."""
    pid, number = os.getpid(), next(_numbers)
    assert number < 250
    return f"127.{64 + (pid >> 8) % 128}.{pid & 255}.{number}"


class Member:
    """One member, running or stopped."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.address = address()
        self.directory = directory
        self.client_url = f"http://{self.address}:2379"
        self.peer_url = f"http://{self.address}:2380"
        self.client = Etcd([self.client_url], deadline_s=3.0)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, cluster: "Sequence[Member]", *, state: str = "new") -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *("etcd", "--name", self.name, "--data-dir", str(self.directory / "data")),
                *("--listen-client-urls", self.client_url, "--advertise-client-urls", self.client_url),
                *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
                *("--initial-cluster", ",".join(f"{m.name}={m.peer_url}" for m in cluster)),
                *("--initial-cluster-state", state, "--initial-cluster-token", "tests"),
                *("--heartbeat-interval", "50", "--election-timeout", "500", "--quota-backend-bytes", "8388608"),
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            await self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Stop all of its threads: on a busy machine, some may run for a while after the signal was sent."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


class Cluster:
    """A cluster of these members, and a client of it."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.client = Etcd([m.client_url for m in members], deadline_s=3.0)

    async def leader(self) -> Member:
        """Wait until there is a leader with a quorum, and return it."""
        async with asyncio.timeout(UP_S):
            while True:
                with contextlib.suppress(errors.InfraKitError):
                    await self.client.read("kv/range", {"key": "AA=="})  # linearizable: there is a quorum
                    for member in self.members:
                        if (
                            member.process is not None
                            and (status := await member.client.status()).leader == status.member
                        ):
                            return member
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        for client in (self.client, *(m.client for m in self.members)):
            await client.close()
        for member in self.members:
            await member.kill()


@contextlib.asynccontextmanager
async def running(count: int, directory: Path) -> AsyncIterator[Cluster]:
    """Start a new cluster, and wait for its leader."""
    members = []
    for number in range(count):
        folder = directory / f"m{number}"
        await asyncio.to_thread(folder.mkdir, mode=0o700)
        members.append(Member(f"m{number}", folder))
    cluster = Cluster(members)
    try:
        for member in members:
            await member.start(members)
        await cluster.leader()
        yield cluster
    finally:
        await cluster.close()
