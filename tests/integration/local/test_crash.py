"""Daemons of the provider `local` are killed with -9 at random points, two at a time, hundreds of times.

After every crash a new daemon must find a consistent state: no token started twice, no volume or logical ID with two
processes, no process without a listed instance, nothing lost from a volume; and a retry with the token of an unfinished
creation yields one instance.
"""

import asyncio
import os
import random
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from infrakit.instances.local import Local
from infrakit.spi.values import TAG_TOKEN, Description, State
from tests.integration.local import crashing
from tests.unit.instances.local_world import destroy, kill_all, listed, survivors, until, until_written

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "110"))  # two kills each
SEED = int(os.environ.get("CRASH_SEED", "1"))
DELAY_S_MAX = 0.06
SLOTS = [["10.0.0.1", "10.0.0.2", "10.0.0.3"], ["10.0.1.1", "10.0.1.2", "10.0.1.3"]]


class Daemons:
    """Starts daemons and kills them."""

    def __init__(self, home: Path, intents: Path) -> None:
        self._home, self._intents = home, intents
        self._forker = subprocess.Popen(
            [sys.executable, "-m", crashing.__name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._running: set[int] = set()

    def start(self, slots: list[str], seed: int) -> int:
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        workload = crashing.Workload(home=str(self._home), intents=str(self._intents), slots=slots, seed=seed)
        self._forker.stdin.write(msgspec.json.encode(workload).decode() + "\n")
        self._forker.stdin.flush()
        pid = int(self._forker.stdout.readline())
        self._running.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert not poll.poll(0), "the daemon has exited by itself"
            os.kill(pid, 9)
            assert poll.poll(10_000)
        finally:
            os.close(pidfd)
            self._running.discard(pid)

    def close(self) -> None:
        kill_all([*self._running])
        self._forker.kill()
        self._forker.communicate()


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    (tmp_path / "intents").mkdir()
    created = Daemons(tmp_path / "local", tmp_path / "intents")
    yield created
    created.close()
    kill_all(survivors(tmp_path))


def journals(home: Path) -> dict[str, list[str]]:
    return {path.parent.name: path.read_text().splitlines() for path in home.glob("volumes/*/journal")}


async def check_state(tmp_path: Path, before: dict[str, list[str]]) -> dict[str, list[str]]:
    """The journals of the volumes, as a restarted daemon finds them."""
    home = tmp_path / "local"
    local = Local(home)
    try:
        await check_listing(local, tmp_path)
        for slot in (each for slots in SLOTS for each in slots):
            number = crashing.generation(tmp_path / "intents", slot)
            if number == 0:
                continue
            instance = await local.provision(spec=crashing.spec_of(slot, number))
            assert instance == await local.provision(spec=crashing.spec_of(slot, number))
            if not crashing.was_destroyed(tmp_path / "intents", slot):
                await until_written(home / "volumes" / f"volume-{slot}" / "journal", f"{slot}-{number} {instance}\n")
        await check_listing(local, tmp_path)
    finally:
        await local.close()
    after = journals(home)
    assert not list(home.glob("volumes/*/violations"))
    for volume, lines in after.items():
        assert lines[: len(before.get(volume, []))] == before.get(volume, []), "a volume has lost something"
        assert max(Counter(line.split()[0] for line in lines).values()) == 1, "a token was started twice"
    assert before.keys() <= after.keys()
    return after


async def check_listing(local: Local, tmp_path: Path) -> None:
    instances = await listed(local)
    holders = Counter(each.logical_id for each in instances.values())
    assert not holders or max(holders.values()) == 1
    for each in instances.values():
        slot, _, number = token(each).rpartition("-")
        assert each.logical_id == slot
        newest = crashing.generation(tmp_path / "intents", slot)
        assert int(number) == newest

    async def all_are_listed() -> bool:
        """Every process past the gate belongs to a listed instance; those before the gate exit by themselves."""
        alive = {directory.name for directory in (local._home.instances).iterdir() if running(directory)}
        present = await listed(local)
        return alive <= present.keys()

    await until(all_are_listed)


def running(directory: Path) -> bool:
    return bool(survivors(directory))


def token(described: Description) -> str:
    assert described.tags is not None
    return described.tags[TAG_TOKEN]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_crashes_neither_duplicate_instances_nor_lose_data(daemons: Daemons, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    seen: dict[str, list[str]] = {}
    for _ in range(ROUNDS):
        pids = [daemons.start(slots, rng.getrandbits(32)) for slots in SLOTS]
        for pid in pids:
            await asyncio.sleep(rng.random() * DELAY_S_MAX)
            daemons.kill(pid)
        seen = await check_state(tmp_path, seen)
    assert sum(len(lines) for lines in seen.values()) > ROUNDS / 2, (
        "too few instances were started for a meaningful test"
    )
    await check_destroy_all(tmp_path)


async def check_destroy_all(tmp_path: Path) -> None:
    """Everything can be destroyed; only volumes and the logs of terminated instances are left."""
    home = tmp_path / "local"
    local = Local(home)
    for each, described in (await listed(local)).items():
        assert described.state is not State.FINISHED
        await destroy(local, each)
    assert await listed(local) == {}
    await local.close()
    await Local(home).close()
    assert survivors(tmp_path) == []
    assert list((home / "trash").iterdir()) == []
    assert list((home / "claims").iterdir()) == []
    assert not any((terminated / "work").exists() for terminated in (home / "graves").iterdir())
    assert len(list((home / "volumes").iterdir())) == sum(map(len, SLOTS))
