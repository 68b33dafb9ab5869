"""Writers are killed at any moment, hundreds of times: nothing that was acknowledged is lost, and nothing is torn."""

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrakit.stores.file import FileStore
from tests.integration.stores.writing import NAME, body

KILLS = 300
LIFE_S_MAX = 0.03  # a write takes about a millisecond


class Writers:
    """A process that forks a writer for each directory it is told, and what they all say."""

    def __init__(self) -> None:
        program = [sys.executable, str(Path(__file__).with_name("writing.py"))]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def killed_after(self, directory: Path, life_s: float) -> int:
        """Start a writer and kill it after a while; return the last revision it said was acknowledged, or 0."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{directory}\n")
        pid = int(self.process.stdout.readline().split()[0])
        dead = os.pidfd_open(pid)
        time.sleep(life_s)
        os.kill(pid, signal.SIGKILL)
        select.select([dead], [], [], 60)
        os.close(dead)
        return max((int(line) for line in self._said()), default=0)

    def _said(self) -> list[str]:
        out = self.process.stdout
        assert out is not None
        text = ""
        while select.select([out], [], [], 0)[0]:
            text += os.read(out.fileno(), 65536).decode()
        return text.split()


@pytest.fixture
def writers() -> Iterator[Writers]:
    made = Writers()
    with made.process:
        yield made
        made.process.kill()


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_is_torn(writers: Writers, tmp_path: Path) -> None:
    chance = random.Random(20)
    store, acknowledged, alive = FileStore(tmp_path), 0, 0
    for _ in range(KILLS):
        said = writers.killed_after(tmp_path, chance.uniform(0.0, LIFE_S_MAX))
        alive += bool(said)
        acknowledged = max(acknowledged, said)
        newest = asyncio.run(store.read(name=NAME))
        assert newest.revision in {acknowledged, acknowledged + 1}
        acknowledged = newest.revision
        assert newest.body == (body(newest.revision) if newest.revision else b"")
    assert alive > KILLS / 2, "they were killed before they wrote anything: the test shows nothing"
    history = asyncio.run(store.history(name=NAME, limit=500))
    assert [d.revision for d in history] == list(range(acknowledged, acknowledged - len(history), -1))
    assert all(d.body == body(d.revision) for d in history)
    asyncio.run(store.replace(name=NAME, body=body(acknowledged + 1), expected=acknowledged))
    assert not list((tmp_path / NAME).glob(".new-*"))  # what the dead left behind is gone
