"""The leader file: whose name it holds leads; garbage is nobody, and silence is nothing at all."""

# ruff: noqa: ASYNC240 - files in memory or on a local disk

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.leadership.file import FileObserver, write_leader
from infrakit.spi.leadership import Observation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leader"


@pytest.fixture
async def seen(path: Path) -> AsyncIterator[AsyncIterator[Observation]]:
    stream = FileObserver(path, "one", interval_s=0.001).observe()
    yield stream
    await stream.aclose()  # type: ignore[attr-defined]


async def test_whose_name_it_holds_leads(path: Path, seen: AsyncIterator[Observation]) -> None:
    write_leader(path, "one")
    observation = await anext(seen)
    assert (observation.leader, observation.who) == (True, "one")
    write_leader(path, "two")
    observation = await anext(seen)
    assert (observation.leader, observation.who) == (False, "two")
    write_leader(path, "one")
    assert (await anext(seen)).leader is True


async def test_nothing_is_nobody(path: Path, seen: AsyncIterator[Observation]) -> None:
    observation = await anext(seen)
    assert observation.leader is False
    assert "does not exist" in observation.note


@pytest.mark.parametrize(
    "content", [b"", b"\n", b" \n\n", b"\xff\xfe", b"one\ntwo\n", b"one\0", b"o" * 254, b"\x1b[2Jone"]
)
async def test_garbage_is_nobody(path: Path, seen: AsyncIterator[Observation], content: bytes) -> None:
    path.write_bytes(content)
    observation = await anext(seen)
    assert observation.leader is False
    assert "contains no name" in observation.note


async def test_what_cannot_be_read_says_nothing(path: Path, seen: AsyncIterator[Observation]) -> None:
    path.mkdir()
    observation = await anext(seen)
    assert observation.leader is None
    assert "cannot be read" in observation.note


async def test_a_file_system_that_hangs_says_nothing_and_is_asked_once(
    path: Path, seen: AsyncIterator[Observation]
) -> None:
    os.mkfifo(path)  # opening it waits for a writer
    assert (await anext(seen)).leader is None
    assert "does not answer" in (await anext(seen)).note
    with path.open("wb") as writer:  # now there is one
        write_leader(path, "one")
        writer.write(b"two")
    while (observation := await anext(seen)).leader is None:
        pass
    assert observation.leader is True
