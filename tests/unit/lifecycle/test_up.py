"""`infrakit up` in this process, watched by a view that stops it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from infrakit.lifecycle import up
from infrakit.lifecycle.request import DocumentRequest
from infrakit.rpc import discovery
from infrakit.runtime.sources import Place
from infrakit.spi.event import Event, Kind
from infrakit.spi.manager import MemberStatus, Status

DOCUMENT = """\
- kind: group
  metadata: {name: web}
  properties:
    Allocation: {Size: 2}
    Instance: {Plugin: simulator}
    Flavor: {Plugin: vanilla}
"""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    monkeypatch.setenv(discovery.HOME_VARIABLE, str(path))
    monkeypatch.delenv(discovery.PLUGINS_DIR_VARIABLE, raising=False)
    yield path
    shutil.rmtree(path)


class StopsWhenConverged:
    """Records the number of members, and stops the daemon as soon as it has converged."""

    def __init__(self) -> None:
        self.member_counts: list[int] = []

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:
        del status
        self.member_counts.append(len(members))

    def event(self, event: Event) -> None:
        if event.type is Kind.CONVERGED:
            os.kill(os.getpid(), signal.SIGINT)


def test_the_last_status_is_read_when_the_daemon_stops(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "STATUS_INTERVAL_S", 1000.0)  # so that the last regular status is old
    view = StopsWhenConverged()
    document = DocumentRequest(text=DOCUMENT, source="web.yaml", who="ann", why="a test")
    assert up.run(document, home=home, place=Place(), view=view) == 0
    assert len(view.member_counts) == 2
    assert view.member_counts[-1] == 2
