"""One Engine for all tests of a process, emptied for each test, and providers that use it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infrakit.instances.docker import Docker
from tests.integration.docker.engines import Engine, running


@pytest.fixture(scope="session")
def started() -> Iterator[Engine]:
    with running() as engine:
        engine.build()
        yield engine


@pytest.fixture
def engine(started: Engine) -> Iterator[Engine]:
    yield started
    started.clear()


@pytest.fixture
async def docker(engine: Engine, tmp_path: Path) -> AsyncIterator[Docker]:
    provider = Docker(tmp_path / "docker", host=engine.host)
    yield provider
    await provider.close()
