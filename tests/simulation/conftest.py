"""An oracle for each test that needs one."""

from collections.abc import Iterator

import pytest

from tests.simulation.court import Court


@pytest.fixture
def court() -> Iterator[Court]:
    created = Court()
    yield created
    created.timeline.close()
