"""A daemon with canned responses behind a real socket, and the command line that calls it."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infrakit.rpc import discovery
from infrakit.rpc.server import Server
from tests.unit.cli.canned import CannedManager, Serve
from tests.unit.cli.command_line import CommandLine


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cli(home: Path) -> CommandLine:
    return CommandLine(home)


@pytest.fixture
def serve(home: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Serves a manager at the socket that the command line uses, until the block ends."""
    monkeypatch.setenv(discovery.HOME_VARIABLE, str(home))
    monkeypatch.delenv(discovery.PLUGINS_DIR_VARIABLE, raising=False)
    discovery.plugins_directory().mkdir(parents=True)

    def server(canned: CannedManager) -> Server:
        return Server(discovery.manager_socket(), {".": canned, "metadata": canned.facts}, events=canned.journal)

    return server


@pytest.fixture
async def manager(serve: Serve) -> AsyncIterator[CannedManager]:
    """A canned daemon for the whole test."""
    canned = CannedManager()
    async with serve(canned):
        yield canned
