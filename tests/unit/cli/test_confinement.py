"""Work in a process with limits: what it returns, what it raises, and how it is ended."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from infrakit.cli import confinement
from infrakit.rpc.discovery import NotRunning
from infrakit.spi.errors import InvalidSpec, NotFound, Problem, Refused, Unreachable


class Answer(msgspec.Struct, frozen=True):
    """What some work returns."""

    text: str
    pid: int


def answer() -> Answer:
    return Answer("x" * 300_000, os.getpid())


def endless() -> int:
    while True:
        pass


def one_endless_step() -> int:
    """No signal handler of Python runs before it is done."""
    return len(str(7 ** (10**9)))


def greedy() -> int:
    return len(bytearray(1 << 30))


def creeping() -> int:
    kept = []
    while True:
        kept.append(bytearray(1 << 20))


def test_the_value_comes_back_from_another_process() -> None:
    found = confinement.run(answer, Answer)
    assert len(found.text) == 300_000
    assert found.pid != os.getpid()


def test_an_error_comes_back_whole() -> None:
    def wrong() -> str:
        raise InvalidSpec([Problem(path="a", message="no", line=3, hint="yes")], where="x.j2")

    with pytest.raises(InvalidSpec) as caught:
        confinement.run(wrong, str)
    assert str(caught.value) == "x.j2: line 3: a: no (yes)"

    def missing() -> str:
        raise NotFound("no such file", where="x", remedy="look")

    with pytest.raises(NotFound, match="x: no such file; look"):
        confinement.run(missing, str)

    def silent() -> str:
        raise NotRunning("nobody answers", remedy="start it")

    with pytest.raises(Unreachable, match="nobody answers; start it"):
        confinement.run(silent, str)


def test_a_defect_is_told_as_one() -> None:
    with pytest.raises(RuntimeError, match=r"^ZeroDivisionError: "):
        confinement.run(lambda: 1 // 0, int)


@pytest.mark.parametrize("work", [endless, one_endless_step])
def test_what_computes_without_end_is_ended(work: Callable[[], int]) -> None:
    with pytest.raises(Refused, match="exceeded 1s of CPU time"):
        confinement.run(work, int, cpu_s=1)


@pytest.mark.parametrize("work", [greedy, creeping])
def test_what_grows_without_end_is_ended(work: Callable[[], int]) -> None:
    with pytest.raises(Refused, match="exceeded 64 MB of memory"):
        confinement.run(work, int, memory_bytes=64 << 20)


def dead_children() -> set[str]:
    """Of this very thread, and nobody has asked for their end yet."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return {pid for pid in children if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"}


def test_nothing_is_left_behind() -> None:
    before, others = len(list(Path("/proc/self/fd").iterdir())), dead_children()
    works: list[Callable[[], object]] = [answer, greedy, lambda: 1 // 0]
    for work in works:
        with contextlib.suppress(RuntimeError, Refused):
            confinement.run(work, object, memory_bytes=64 << 20)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not dead_children() - others
