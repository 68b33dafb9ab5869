"""A path for sockets, and a provider that is served at it."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infrakit.rpc.server import Server
from tests.integration.rpc.daemons import WatchedJournal
from tests.unit.rpc.plugins import Provider


@pytest.fixture
def path() -> Iterator[Path]:
    """A path that is short enough for a socket, in a directory that does not exist yet."""
    directory = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield directory / "plugins" / "p"
    shutil.rmtree(directory)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def journal() -> WatchedJournal:
    return WatchedJournal()


@pytest.fixture
async def server(path: Path, provider: Provider, journal: WatchedJournal) -> AsyncIterator[Server]:
    async with Server(path, {".": provider}, events=journal) as running:
        yield running
