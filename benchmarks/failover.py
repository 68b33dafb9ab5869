"""Failover: the time from the loss of the leader to the first action of the new one, with real processes.

Also the cost of an idle follower. The first action starts a missing instance, whose boot script records the time. The
original, on such a machine, from the change of a leader file: 0.3 to 4.8 s.
"""

import asyncio
import contextlib
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from infrakit.leadership.file import write_leader
from tests.integration.etcd.members import Cluster, Member, running
from tests.journeys.operator import cattle
from tests.journeys.replicas import InEtcd, Replicas

ORIGINAL_S = (0.3, 4.8)
RUNS = 9
IDLE_S = 20.0
START_SCRIPT = 'date +%s.%N > "$MARK_DIRECTORY/started-$INFRAKIT_INSTANCE_ID"; exec sleep 1000'


def declared(directory: Path) -> dict[str, Any]:
    return cattle("web", 1, instance={"Environment": {"MARK_DIRECTORY": str(directory)}}, init=START_SCRIPT)


def start_time(directory: Path, before: set[str]) -> float:
    """Return the start time of the first instance that is not in `before`, in seconds since 1970."""
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        for path in directory.glob("started-*"):
            with contextlib.suppress(ValueError):
                if path.name not in before:
                    return float(path.read_text())
        time.sleep(0.005)
    raise TimeoutError("no action within 60 s")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("started-*")}


@contextlib.contextmanager
def closing(replicas: Replicas) -> Iterator[Replicas]:
    try:
        yield replicas
    finally:
        replicas.close()


def kill_instance(replicas: Replicas) -> None:
    for process in replicas.provider.processes():
        process.kill()


# -- a leader file -----------------------------------------------------------------------------------------------------


def leader_changes(directory: Path, stop: Callable[[subprocess.Popen[str]], None]) -> list[float]:
    """Stop the leader, kill an instance, change the leader file; return seconds until the new leader acts."""
    took = []
    with closing(Replicas()) as replicas:
        replicas.start("a", "b")
        replicas.lead("a")
        replicas.operators["a"].commit(declared(directory))
        for run in range(RUNS):
            old, new = ("a", "b") if run % 2 == 0 else ("b", "a")
            daemon = replicas.operators[old].daemon
            assert daemon is not None
            before = names(directory)
            stop(daemon)
            kill_instance(replicas)
            began = time.time()
            write_leader(replicas.leader_file, new)
            took.append(start_time(directory, before) - began)
            daemon.send_signal(signal.SIGCONT)
            if stop is kill:
                daemon.wait(60)
                replicas.up(old)
            replicas.operators[new].converged()
    return took


def kill(daemon: "subprocess.Popen[str]") -> None:
    daemon.kill()


def freeze(daemon: "subprocess.Popen[str]") -> None:
    daemon.send_signal(signal.SIGSTOP)


# -- etcd --------------------------------------------------------------------------------------------------------------


async def elections(directory: Path) -> tuple[list[float], list[float]]:
    """Kill the leader's machine; return seconds until etcd has elected, and from there until the new leader acts."""
    elected, acted = [], []
    async with running(3, directory) as cluster:
        replicas = InEtcd(cluster)
        try:
            await asyncio.to_thread(replicas.start, *(member.name for member in cluster.members))
            await asyncio.to_thread(replicas.operators["m0"].commit, declared(directory))
            for _ in range(RUNS):
                election_s, action_s = await election(directory, cluster, replicas)
                elected.append(election_s)
                acted.append(action_s)
        finally:
            await asyncio.to_thread(replicas.close)
    return elected, acted


async def election(directory: Path, cluster: Cluster, replicas: Replicas) -> tuple[float, float]:
    leader = await cluster.leader()
    one = replicas.operators[leader.name]
    await asyncio.to_thread(one.until, lambda: one.ask_status()["Leader"], f"{leader.name} leads")
    await asyncio.to_thread(one.converged)
    before = names(directory)
    assert one.daemon is not None
    one.daemon.kill()
    await leader.kill()
    kill_instance(replicas)
    began = time.time()
    others = [member for member in cluster.members if member is not leader]
    await elect(others)
    at = time.time()
    action_s = await asyncio.to_thread(start_time, directory, before) - at
    one.daemon.wait(60)
    await leader.start(cluster.members)
    await asyncio.to_thread(replicas.up, leader.name)
    return at - began, action_s


async def elect(members: list[Member]) -> None:
    """Return as soon as one of the members reports that it is the leader."""
    while True:
        for member in members:
            status = await member.client.status()
            if status.leader == status.member:
                return
        await asyncio.sleep(0.002)


# -- a follower --------------------------------------------------------------------------------------------------------


def idle(replicas: Replicas, name: str) -> tuple[float, float]:
    """Return the share of a core and the memory in MB of a follower."""
    daemon = replicas.operators[name].daemon
    assert daemon is not None
    process = psutil.Process(daemon.pid)
    before = process.cpu_times()
    time.sleep(IDLE_S)
    after = process.cpu_times()
    cpu = (after.user - before.user + after.system - before.system) / IDLE_S
    return cpu, process.memory_info().rss / 1e6


async def idle_in_etcd(directory: Path) -> tuple[float, float]:
    async with running(3, directory) as cluster:
        replicas = InEtcd(cluster)
        try:
            await asyncio.to_thread(replicas.start, *(member.name for member in cluster.members))
            await asyncio.to_thread(replicas.operators["m0"].commit, declared(directory))
            leader = await cluster.leader()
            follower = next(member for member in cluster.members if member is not leader)
            return await asyncio.to_thread(idle, replicas, follower.name)
        finally:
            await asyncio.to_thread(replicas.close)


def idle_with_files(directory: Path) -> tuple[float, float]:
    with closing(Replicas()) as replicas:
        replicas.start("a", "b")
        replicas.lead("a")
        replicas.operators["a"].commit(declared(directory))
        return idle(replicas, "b")


def show(what: str, took: list[float], note: str = "") -> None:
    middle = statistics.median(took)
    print(
        f"{what}: median {middle * 1000:.0f} ms, {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms{note}", flush=True
    )


def main() -> None:
    print("# failover", flush=True)
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp") as name:
        directory = Path(name)
        ratio = "; the original: {} to {} s".format(*ORIGINAL_S)
        show("change of the leader file, previous leader killed", leader_changes(directory, kill), ratio)
        show("change of the leader file, previous leader frozen", leader_changes(directory, freeze), ratio)
        elected, acted = asyncio.run(elections(directory))
        show("the machine of etcd's leader killed, until etcd has elected", elected)
        show("from then to the new leader's first action", acted)
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp") as name:
        print("a follower, files: {:.1%} of a core, {:.0f} MB".format(*idle_with_files(Path(name))), flush=True)
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp") as name:
        print(
            "a follower, etcd: {:.1%} of a core, {:.0f} MB".format(*asyncio.run(idle_in_etcd(Path(name)))), flush=True
        )


if __name__ == "__main__":
    main()
