"""The leader file: the node that it names leads; invalid content means no leader, a failed read is unknown."""

# ruff: noqa: ASYNC240 - files in memory or on a local disk

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.leadership.file import READ_DEADLINE_S, FileObserver, write_leader
from infrakit.spi.leadership import Observation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leader"


@pytest.fixture
async def observations(path: Path) -> AsyncIterator[AsyncIterator[Observation]]:
    stream = FileObserver(path, "one", interval_s=0.001).observe()
    yield stream
    await stream.aclose()  # type: ignore[attr-defined]


async def test_the_node_named_in_the_file_leads(path: Path, observations: AsyncIterator[Observation]) -> None:
    write_leader(path, "one")
    observation = await anext(observations)
    assert (observation.leader, observation.who) == (True, "one")
    write_leader(path, "two")
    observation = await anext(observations)
    assert (observation.leader, observation.who) == (False, "two")
    write_leader(path, "one")
    assert (await anext(observations)).leader is True


async def test_without_the_file_the_node_does_not_lead(path: Path, observations: AsyncIterator[Observation]) -> None:
    observation = await anext(observations)
    assert observation.leader is False
    assert "does not exist" in observation.note


@pytest.mark.parametrize(
    "content", [b"", b"\n", b" \n\n", b"\xff\xfe", b"one\ntwo\n", b"one\0", b"o" * 254, b"\x1b[2Jone"]
)
async def test_with_invalid_content_the_node_does_not_lead(
    path: Path, observations: AsyncIterator[Observation], content: bytes
) -> None:
    path.write_bytes(content)
    observation = await anext(observations)
    assert observation.leader is False
    assert "contains no name" in observation.note


async def test_an_unreadable_file_means_unknown_leadership(
    path: Path, observations: AsyncIterator[Observation]
) -> None:
    path.mkdir()
    observation = await anext(observations)
    assert observation.leader is None
    assert "cannot be read" in observation.note


async def test_a_hanging_file_system_means_unknown_leadership_and_is_read_once(
    path: Path, observations: AsyncIterator[Observation]
) -> None:
    os.mkfifo(path)  # opening it waits for a writer
    first = await anext(observations)
    assert first.leader is None
    assert first.begun_at <= asyncio.get_running_loop().time() - READ_DEADLINE_S, "as old as its request"
    again = await anext(observations)
    assert (again.leader, "does not answer" in again.note) == (None, True)
    with path.open("wb") as writer:  # now there is one
        write_leader(path, "one")
        writer.write(b"two")
    while (observation := await anext(observations)).leader is None:
        pass
    assert observation.leader is True
