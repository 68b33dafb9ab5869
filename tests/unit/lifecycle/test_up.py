"""`infrakit up` in this process, watched by a view that stops it."""

import asyncio
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from infrakit.lifecycle import up
from infrakit.lifecycle.request import DocumentRequest
from infrakit.manager.api.manager import Operator
from infrakit.rpc import discovery
from infrakit.runtime import collector
from infrakit.runtime.sources import Place
from infrakit.spi.event import Event, Kind
from infrakit.spi.manager import MemberStatus, Status
from tests.unit.cli import canned

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
    threshold = gc.get_threshold()
    yield path
    gc.set_threshold(*threshold)
    gc.unfreeze()
    shutil.rmtree(path)


class StopsWhenConverged:
    """Records the number of members, and stops the daemon as soon as it has converged."""

    def __init__(self, *, is_live: bool = True) -> None:
        self.is_live = is_live
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
    assert gc.get_threshold()[0] == collector.NEW_OBJECTS


def test_a_view_that_is_not_live_gets_only_the_last_status_and_no_members(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    members = Operator.members

    async def counted(self: Operator, **arguments: Any) -> tuple[MemberStatus, ...]:
        reports.append("members")
        return await members(self, **arguments)

    monkeypatch.setattr(Operator, "members", counted)
    view = StopsWhenConverged(is_live=False)
    document = DocumentRequest(text=DOCUMENT, source="web.yaml", who="ann", why="a test")
    assert up.run(document, home=home, place=Place(), view=view) == 0
    assert view.member_counts == [0]
    assert reports == []


class Reported:
    """A daemon's operator and journal, with a revision that the test sets; each status counts."""

    def __init__(self) -> None:
        self.operator = self.journal = self
        self.revision = self.newest = self.statuses = 0

    async def status(self) -> Status:
        self.statuses += 1
        return await canned.CannedManager().status()

    async def members(self) -> tuple[MemberStatus, ...]:
        return ()


@pytest.mark.parametrize("changed", ["revision", "newest"])
async def test_an_unchanged_status_is_reported_again_only_for_its_ages(
    changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "STATUS_INTERVAL_S", 0.0)
    monkeypatch.setattr(up, "AGES_S", 3600.0)
    monkeypatch.setattr(up, "CHANGED_SHARE_MAX", 1.0)
    daemon: Any = Reported()
    showing = asyncio.get_running_loop().create_task(up._statuses(daemon, StopsWhenConverged()))
    try:
        for expected in (1, 2):
            for _ in range(1000):
                await asyncio.sleep(0)
            assert daemon.statuses == expected
            setattr(daemon, changed, 1)
    finally:
        showing.cancel()
