"""Writers are killed at random moments, hundreds of times: no acknowledged write is lost, and none is partial."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrakit.spi.store import Document
from infrakit.stores.file import FileStore
from tests.integration.stores.writing import KEEP, NAME, body

KILLS = int(os.environ.get("CRASH_ROUNDS", "300"))
SEED = int(os.environ.get("CRASH_SEED", "1"))
ACKNOWLEDGED_MAX = 12  # how many revisions a writer may acknowledge before it is killed,
DELAY_S_MAX = 0.004  # and how long after the last of them: a write takes about a millisecond


class Writers:
    """A process that forks a writer for each directory that it reads, and the output of all writers, line by line."""

    def __init__(self) -> None:
        program = [sys.executable, str(Path(__file__).with_name("writing.py"))]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def killed_after(self, directory: Path, count: int, delay_s: float) -> list[int]:
        """Start a writer, kill it `delay_s` after that many acknowledgements; return the acknowledged revisions."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{directory}\n")
        revisions = []
        while not (line := self._line()).startswith("pid"):
            revisions.append(int(line))  # the writer may be faster than the process that reports its PID
        pid = int(line.removeprefix("pid "))
        while len(revisions) < count:
            revisions.append(int(self._line()))
        time.sleep(delay_s)
        os.kill(pid, signal.SIGKILL)
        while (line := self._line()) != "dead":
            revisions.append(int(line))
        return revisions

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process that forks the writers has exited"
        return line.strip()


@pytest.fixture
def writers() -> Iterator[Writers]:
    started = Writers()
    with started.process:
        yield started
        started.process.kill()


def check(store: FileStore, acknowledged: int) -> int:
    """Check that the acknowledged revisions exist, at most one more, and all complete; return the newest revision."""

    async def read() -> tuple[Document, list[Document]]:
        return await store.read(name=NAME), list(await store.history(name=NAME, limit=KEEP))

    newest, history = asyncio.run(read())
    assert newest.revision in {acknowledged, acknowledged + 1}
    numbers = [document.revision for document in history]
    assert numbers == list(range(newest.revision, max(newest.revision - KEEP, 0), -1)), "there is a gap"
    assert all(document.body == body(document.revision) for document in history)
    return newest.revision


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_acknowledged_write_is_lost_and_none_is_partial(writers: Writers, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    store, newest, unacknowledged, left_behind = FileStore(tmp_path, keep={NAME: KEEP}), 0, 0, 0
    for _ in range(KILLS):
        revisions = writers.killed_after(tmp_path, rng.randint(0, ACKNOWLEDGED_MAX), rng.uniform(0.0, DELAY_S_MAX))
        assert revisions == list(range(newest + 1, newest + 1 + len(revisions)))
        acknowledged = newest + len(revisions)
        newest = check(store, acknowledged)
        unacknowledged += newest > acknowledged
        temporary = len(list((tmp_path / NAME).glob(".new-*")))
        assert temporary <= 1, "temporary files of killed writers accumulate"
        left_behind += temporary
    assert unacknowledged, "no writer was killed between its write and its acknowledgement: the test is not significant"
    assert left_behind, "no writer was killed during a write: the test is not significant"
