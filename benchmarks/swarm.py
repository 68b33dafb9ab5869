"""The store in a Swarm of three managers, data on disk: its cost per call and when idle; and the time of an election.

The election is the Swarm's own; InfraKit's part starts when an Engine logs that it is the leader, and ends when the
replica beside it observes that.
"""

import asyncio
import os
import re
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from infrakit.clients.swarm import Swarm
from infrakit.leadership.swarm import SwarmObserved
from infrakit.stores.swarm import SwarmStore
from tests.integration.swarm.engines import Engines, Node, running
from tests.journeys.operator import cattle
from tests.journeys.replicas import InSwarm, acting

CALLS = 200
ELECTIONS = 5  # of each kind
IDLE_S = 60.0
SETTLE_S = 5.0
_ELECTED = re.compile(r'time="([^"]{26})[^"]*" level=info msg="\w+ became leader at term')


async def calls(node: Node, where: str) -> None:
    store, client = SwarmStore(Swarm(node.host)), Swarm(node.host)
    observer, ledger = SwarmObserved(client), os.urandom(1500).hex().encode()

    async def write(number: int) -> None:
        await store.replace(name=where, body=ledger, expected=number)

    async def read(_: int) -> None:
        await store.read(name=where)

    async def at_once(_: int) -> None:
        await asyncio.gather(*(store.read(name=where) for _ in range(20)))

    async def observe(_: int) -> None:
        async for _observation in observer.observe():
            break

    for what, call in (
        ("a write of 3 kB", write),
        ("a read", read),
        ("20 reads at once", at_once),
        ("an observation", observe),
    ):
        took = sorted([await timed(call, number) for number in range(CALLS)])
        print(
            f"  at the {where}: {what:17} median {statistics.median(took) * 1e3:5.2f} ms, 95 % {took[-10] * 1e3:5.2f}"
        )
    await store.close()
    await client.close()


async def timed(call: Callable[[int], Awaitable[None]], number: int) -> float:
    began = time.perf_counter()
    await call(number)
    return time.perf_counter() - began


async def election(engines: Engines, how: str) -> tuple[float, float]:
    """Return seconds from the loss of the leader to the election of the next, and from there to its observation."""
    leader = await asyncio.to_thread(engines.leader)
    rest = [node for node in engines.nodes if node is not leader]
    observers = [SwarmObserved(Swarm(node.host)) for node in rest]
    await asyncio.sleep(SETTLE_S)
    offsets = [len(node.log) for node in rest]

    async def leads(observer: SwarmObserved) -> float:
        async for observation in observer.observe():
            if observation.leader:
                return time.time()
        raise AssertionError

    watching = [asyncio.ensure_future(leads(each)) for each in observers]
    began = time.time()
    await asyncio.to_thread(leader.kill if how == "kill -9" else leader.stop)
    done, late = await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
    for each in late:
        each.cancel()
    logged = [found for node, start in zip(rest, offsets, strict=True) for found in _ELECTED.findall(node.log[start:])]
    elected = max(datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in logged)
    for observer in observers:
        await observer.close()
    await asyncio.to_thread(leader.start)
    return elected - began, done.pop().result() - elected


def elections(engines: Engines) -> None:
    for how in ("kill -9", "TERM"):
        runs = [asyncio.run(election(engines, how)) for _ in range(ELECTIONS)]
        for what, took in zip(("elected", "observed from there"), zip(*runs, strict=True), strict=True):
            least, most = min(took), max(took)
            print(f"  {how} of the leader, {what}: median {statistics.median(took):.2f} s, {least:.2f} to {most:.2f}")


def idle(engines: Engines) -> None:
    replicas = InSwarm(engines)
    try:
        replicas.start(*(node.name for node in engines.nodes))
        some = next(iter(replicas.operators.values()))
        acting(some)
        some.commit(cattle("web", 3))
        entries = asyncio.run(count_entries(engines.nodes[0]))
        print(f"  three idle replicas: {entries / IDLE_S:.2f} entries a second in the Swarm's log")
    finally:
        replicas.close()


async def count_entries(node: Node) -> int:
    """Return the number of entries added to the log within `IDLE_S`, without those of this count."""
    client = Swarm(node.host)
    probe = await client.create_config("probe", labels={}, data=b"x")
    before = (await client.config(probe)).version
    await asyncio.sleep(IDLE_S)
    await client.update_config_labels(await client.config(probe), {"again": "yes"})
    after = (await client.config(probe)).version
    await client.remove_config(probe)
    await client.close()
    return after - before - 1


def main() -> None:
    print("in a Swarm")
    with tempfile.TemporaryDirectory() as disk, running(3, disk=Path(disk)) as engines:
        asyncio.run(calls(engines.nodes[0], "leader"))
        asyncio.run(calls(engines.nodes[1], "follower"))
        idle(engines)
        elections(engines)


if __name__ == "__main__":
    main()
