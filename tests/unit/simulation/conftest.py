"""Close every timeline that a test creates."""

from collections.abc import Iterator

import pytest

from infrakit.simulation.loops import Timeline


@pytest.fixture(autouse=True)
def _closed_timelines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    created: list[Timeline] = []
    initialize = Timeline.__init__

    def record(self: Timeline) -> None:
        initialize(self)
        created.append(self)

    monkeypatch.setattr(Timeline, "__init__", record)
    yield
    for timeline in created:
        timeline.close()
