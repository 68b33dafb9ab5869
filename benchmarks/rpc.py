"""Describe instances over a unix socket, from one process to another: calls per second, latency, memory.

The original, on such a machine: 10 instances, 1,250 calls/s on one connection and 2,770 on sixteen; 1,000 instances, 23
and 45 calls/s. `python -m benchmarks.rpc memory` makes a million calls, which takes a quarter of an hour.
"""

import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from infrakit.rpc import client
from infrakit.rpc.server import Server
from infrakit.spi.instance import Instance
from infrakit.spi.values import TAG_GROUP, TAG_HASH, Description, InstanceID, LogicalID, State
from tests.unit.rpc.plugins import Provider

ORIGINAL = {(10, 1): 1250.0, (10, 16): 2770.0, (1000, 1): 23.0, (1000, 16): 45.0}  # calls/s
SECONDS = 4.0
MILLION = 1_000_000


class Listing(Provider):
    """A plugin with a fixed number of instances that records nothing."""

    def __init__(self, count: int) -> None:
        super().__init__()
        tags = {TAG_GROUP: "workers", TAG_HASH: "ee2c5ej6wc4ra52yr7tnyghwhqknqnte", "tier": "web"}
        self.descriptions = [
            Description(id=InstanceID(f"i-{n}"), logical_id=LogicalID(f"10.0.0.{n}"), tags=tags, state=State.RUNNING)
            for n in range(count)
        ]

    def _asked(self, method: str, **parameters: Any) -> None:
        pass


def serve(path: str, count: int, ready: Connection) -> None:
    async def run() -> None:
        async with Server(Path(path), {".": Listing(count)}):
            ready.send(True)
            await asyncio.Event().wait()

    asyncio.run(run())


async def ask(path: str, at_once: int, seconds: float, calls: int) -> list[float]:
    """Return the duration of each call in seconds; stops after `seconds` or `calls`, whichever comes first."""
    remote = await client.connect(Instance, "listing", path)
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def one() -> None:
        while (began := time.perf_counter()) < end and calls > len(took):
            await remote.describe_instances(tags={})
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(one() for _ in range(at_once)))
    await remote.close()
    return took


def measure(count: int, at_once: int, seconds: float = SECONDS, calls: int = sys.maxsize) -> None:
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp") as directory:
        path = f"{directory}/p"
        here, there = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(path, count, there))
        server.start()
        try:
            here.recv()
            process = psutil.Process(server.pid)
            memory = process.memory_info().rss
            cpu = resource.getrusage(resource.RUSAGE_SELF)
            began = time.perf_counter()
            took = sorted(asyncio.run(ask(path, at_once, seconds, calls)))
            rate = len(took) / (time.perf_counter() - began)
            used = resource.getrusage(resource.RUSAGE_SELF)
            client_ms = (used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime) / len(took) * 1e3
            times = process.cpu_times()
            server_ms = (times.user + times.system) / len(took) * 1e3
            grown_mb = (process.memory_info().rss - memory) / 2**20
        finally:
            server.terminate()
            server.join()
    ratio = rate / ORIGINAL[count, at_once] if (count, at_once) in ORIGINAL else 0.0
    print(
        f"{count:6,} instances, {at_once:2} at once: {rate:7,.0f} calls/s ({ratio:.1f} times the original's), "
        f"p50 {took[len(took) // 2] * 1e3:.2f} ms, p99 {took[len(took) * 99 // 100] * 1e3:.2f} ms, "
        f"CPU a call {client_ms:.2f} ms client, {server_ms:.2f} ms server, the server grew {grown_mb:.1f} MB"
    )


def main() -> None:
    print("describing over a unix socket")
    for count, at_once in ORIGINAL:
        measure(count, at_once)


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        measure(10, 16, seconds=3600.0, calls=MILLION)
    else:
        main()
