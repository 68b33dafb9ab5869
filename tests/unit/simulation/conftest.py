"""Close every timeline that a test creates."""

from collections.abc import Iterator

import pytest

from infrakit.simulation.loops import Timeline


@pytest.fixture(autouse=True)
def _closed_timelines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[Timeline] = []
    begin = Timeline.__init__

    def remember(self: Timeline) -> None:
        begin(self)
        made.append(self)

    monkeypatch.setattr(Timeline, "__init__", remember)
    yield
    for timeline in made:
        timeline.close()
