"""Writers are killed at any moment, hundreds of times: nothing that was acknowledged is lost, and nothing is torn."""

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
WORDS_MAX = 12  # how many revisions a writer may acknowledge before it is killed,
DELAY_S_MAX = 0.004  # and how long after the last of them: a write takes about a millisecond


class Writers:
    """A process that forks a writer for each directory it is told, and what they all say, line by line."""

    def __init__(self) -> None:
        program = [sys.executable, str(Path(__file__).with_name("writing.py"))]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def killed_after(self, directory: Path, words: int, delay_s: float) -> list[int]:
        """Start a writer, kill it a moment after that many words; return the revisions that it acknowledged."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{directory}\n")
        said = []
        while not (line := self._line()).startswith("pid"):
            said.append(int(line))  # the writer may be faster than the one that tells its pid
        pid = int(line.removeprefix("pid "))
        while len(said) < words:
            said.append(int(self._line()))
        time.sleep(delay_s)
        os.kill(pid, signal.SIGKILL)
        while (line := self._line()) != "dead":
            said.append(int(line))
        return said

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process that forks has ended"
        return line.strip()


@pytest.fixture
def writers() -> Iterator[Writers]:
    made = Writers()
    with made.process:
        yield made
        made.process.kill()


def check(store: FileStore, acknowledged: int) -> int:
    """Everything acknowledged is there, at most one more, and all of it whole; return the newest revision."""

    async def look() -> tuple[Document, list[Document]]:
        return await store.read(name=NAME), list(await store.history(name=NAME, limit=KEEP))

    newest, history = asyncio.run(look())
    assert newest.revision in {acknowledged, acknowledged + 1}
    numbers = [document.revision for document in history]
    assert numbers == list(range(newest.revision, max(newest.revision - KEEP, 0), -1)), "there is a gap"
    assert all(document.body == body(document.revision) for document in history)
    return newest.revision


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_and_nothing_is_torn(writers: Writers, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    store, newest, unheard, left_behind = FileStore(tmp_path, keep={NAME: KEEP}), 0, 0, 0
    for _ in range(KILLS):
        said = writers.killed_after(tmp_path, rng.randint(0, WORDS_MAX), rng.uniform(0.0, DELAY_S_MAX))
        assert said == list(range(newest + 1, newest + 1 + len(said)))
        acknowledged = newest + len(said)
        newest = check(store, acknowledged)
        unheard += newest > acknowledged
        temporary = len(list((tmp_path / NAME).glob(".new-*")))
        assert temporary <= 1, "what dead writers leave behind gathers"
        left_behind += temporary
    assert unheard, "none was killed between its write and its word: the test shows little"
    assert left_behind, "none was killed in the middle of a write: the test shows little"
