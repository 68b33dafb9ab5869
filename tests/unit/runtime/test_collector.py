"""The collector of reference cycles in a process that runs for long."""

import gc
from collections.abc import Iterator

import pytest

from infrakit.runtime import collector


@pytest.fixture
def collected() -> Iterator[None]:
    """Undoes what a test changes."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.mark.usefixtures("collected")
def test_what_exists_at_the_start_is_never_examined_and_the_rest_less_often() -> None:
    existing: list[object] = []
    collector.adapt()
    assert not any(each is existing for each in gc.get_objects())
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == collector.NEW_OBJECTS
    assert gc.isenabled()
