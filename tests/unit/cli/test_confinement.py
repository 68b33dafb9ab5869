"""Functions in a subprocess with limits: their results, their exceptions, and how they are terminated."""

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
    """The result of a function."""

    text: str
    pid: int


def answer() -> Answer:
    return Answer("x" * 300_000, os.getpid())


def endless() -> int:
    while True:
        pass


def one_endless_step() -> int:
    """A single operation: Python runs no signal handler before it finishes."""
    return len(str(7 ** (10**9)))


def greedy() -> int:
    return len(bytearray(1 << 30))


def creeping() -> int:
    kept = []
    while True:
        kept.append(bytearray(1 << 20))


def test_the_result_is_returned_from_another_process() -> None:
    found = confinement.run(answer, Answer)
    assert len(found.text) == 300_000
    assert found.pid != os.getpid()


def test_an_error_is_raised_unchanged() -> None:
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


def test_an_unexpected_exception_is_raised_as_a_runtime_error() -> None:
    with pytest.raises(RuntimeError, match=r"^ZeroDivisionError: "):
        confinement.run(lambda: 1 // 0, int)


@pytest.mark.parametrize("work", [endless, one_endless_step])
def test_an_endless_computation_is_terminated(work: Callable[[], int]) -> None:
    with pytest.raises(Refused, match="exceeded 1s of CPU time"):
        confinement.run(work, int, cpu_s=1)


@pytest.mark.parametrize("work", [greedy, creeping])
def test_unbounded_memory_use_is_terminated(work: Callable[[], int]) -> None:
    with pytest.raises(Refused, match="exceeded 64 MB of memory"):
        confinement.run(work, int, memory_bytes=64 << 20)


def zombie_children() -> set[str]:
    """The terminated children of this thread that are not reaped yet."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return {pid for pid in children if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"}


def test_no_file_descriptor_and_no_zombie_is_left() -> None:
    before, others = len(list(Path("/proc/self/fd").iterdir())), zombie_children()
    functions: list[Callable[[], object]] = [answer, greedy, lambda: 1 // 0]
    for work in functions:
        with contextlib.suppress(RuntimeError, Refused):
            confinement.run(work, object, memory_bytes=64 << 20)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not zombie_children() - others
