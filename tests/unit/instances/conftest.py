"""Providers for tests, and the check that they leave no process behind."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from infrakit.instances.local import Local
from tests.unit.instances import local_world


@pytest.fixture
async def open_local(tmp_path: Path) -> AsyncIterator[Callable[[], Local]]:
    """Creates providers of one directory. The teardown destroys all instances, which must leave no process."""
    opened: list[Local] = []

    def open_() -> Local:
        opened.append(Local(tmp_path / "local"))
        return opened[-1]

    yield open_
    try:
        last = open_()
        for each in await local_world.listed(last):
            await local_world.destroy(last, each)
        for local in opened:
            await local.close()
        assert local_world.survivors(tmp_path) == []
    finally:
        local_world.kill_all(local_world.survivors(tmp_path))


@pytest.fixture
async def local(open_local: Callable[[], Local]) -> Local:
    return open_local()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory of the providers of `open_local`."""
    return tmp_path / "local"
