"""The views of `up`: frames on a terminal, lines elsewhere, and the final message."""

import asyncio
import io
import itertools
import re

import click
import pytest
from rich.console import Console

from infrakit.cli import live, rich_view
from infrakit.spi.event import Event, Kind
from infrakit.spi.manager import MemberStatus, Status, Verdict
from infrakit.spi.values import GroupID, InstanceID, Slot
from tests.unit.cli import canned

EVENT = Event(
    seq=4,
    timestamp="2026-11-23T11:21:54.601500Z",
    type=Kind.CREATED,
    group=GroupID("web"),
    slot=Slot("3"),
    instance=InstanceID("web-3"),
    message="up after 0.2s",
    cause="heal",
)


async def status(**changes: object) -> Status:
    manager = canned.CannedManager()
    for name, value in changes.items():
        setattr(manager, name, value)
    return await manager.status()


def draw(view: rich_view.RichView, console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    console.file.seek(0)
    console.file.truncate()
    with view:
        pass
    return console.file.getvalue()


@pytest.fixture
def console() -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=80, height=40, color_system=None, legacy_windows=False
    )


async def test_without_a_terminal_every_event_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with live.open_view("cluster.yaml") as view:
        assert isinstance(view, live.PlainView)
        assert not view.is_live  # it needs no report of every member
        view.status(await status())
        view.event(EVENT)
    first, second = capsys.readouterr().out.splitlines()
    assert "cluster.yaml" in first
    assert second == "11:21:54Z created        web/3 web-3: up after 0.2s [heal]"


async def test_events_that_occur_at_once_are_printed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(click, "echo", printed.append)
    with live.open_view("cluster.yaml") as view:
        for _ in range(3):
            view.event(EVENT)
        await asyncio.sleep(0)
        view.event(EVENT)
        await asyncio.sleep(0)
        view.event(EVENT)
    assert [len(each.splitlines()) for each in printed] == [1, 3, 1, 1]


async def test_the_frame_shows_groups_instances_reasons_and_events(console: Console) -> None:
    view = rich_view.RichView("cluster.yaml", live.HERE, console)
    assert "starting" in draw(view, console)
    view.status(await status(groups=[canned.group("store"), canned.HEALING], halts=(canned.HALT,)), canned.MEMBERS)
    view.event(EVENT)
    shown = draw(view, console)
    for part in (
        "cluster.yaml",
        "declaration 7, epoch 3",
        "HALTED: everything",
        "store",
        "healing",
        "store-1",
        "unhealthy  red alert",
        "= web: wait web-2",
        "11:21:54Z created        web/3 web-3",
        "Ctrl-C",
    ):
        assert part in shown
    assert max(map(len, re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "\n", shown).splitlines())) <= 80


async def test_the_frame_is_bounded_and_shows_unhealthy_members_first(console: Console) -> None:
    healthy = [
        MemberStatus(
            group=GroupID("web"),
            id=InstanceID(f"web-{i}"),
            slot=Slot(str(i)),
            state="running",
            health=Verdict.HEALTHY,
            up_to_date=True,
        )
        for i in range(1000)
    ]
    view = rich_view.RichView("cluster.yaml", live.HERE, console)
    view.status(await status(), [*healthy, canned.MEMBERS[1]])
    for number in range(100):
        view.event(Event(seq=number, type=Kind.CREATED, message=f"event number {number}"))
    shown = draw(view, console)
    assert "store-1" in shown
    assert "more: " in shown
    assert "event number 99" in shown
    assert "event number 10 " not in shown
    assert all(len(frame.splitlines()) <= 40 for frame in re.split(r"\x1b\[H|\x1b\[\?1049l", shown))


async def test_after_a_resize_the_next_frame_fits_the_new_size(console: Console) -> None:
    view = rich_view.RichView("cluster.yaml", live.HERE, console)
    view.status(await status(), canned.MEMBERS)
    for number in range(8):
        view.event(Event(seq=number, type=Kind.CREATED, message="long " * 40))
    frames = {}
    for size in ((80, 24), (40, 12), (120, 40)):
        console.size = size
        lines = frames[size] = view._render().plain.splitlines()
        assert len(lines) <= size[1]
        assert max(map(len, lines)) == size[0]  # an event fills its line
        assert lines[-1].startswith("Ctrl-C")
    assert "NOTE" in "".join(frames[120, 40])
    assert "NOTE" not in "".join(frames[40, 12])


async def test_a_frame_is_drawn_only_when_something_has_changed(console: Console) -> None:
    view = rich_view.RichView("cluster.yaml", live.HERE, console)
    view.status(await status(), canned.MEMBERS)
    first = view._render()
    assert view._render() is first
    view.event(EVENT)
    second = view._render()
    assert second is not first
    assert "web-3" in second.plain
    view.status(await status(), canned.MEMBERS)
    assert view._render() is not second
    console.size = (60, 20)
    assert len(view._render().plain.splitlines()) <= 20


async def test_the_last_frame_remains_on_the_normal_screen(console: Console) -> None:
    view = rich_view.RichView("cluster.yaml", live.HERE, console)
    view.status(await status(), canned.MEMBERS)
    on_screen, after = draw(view, console).split("\x1b[?1049l")
    assert "Ctrl-C" in on_screen
    assert "store-1" in after
    assert "Ctrl-C" not in after


async def test_the_final_message_depends_on_the_instances_that_still_run() -> None:
    (unknown,) = live.closing_lines(None)
    assert "keep running" in unknown
    (nothing,) = live.closing_lines(await status(groups=[canned.group("web", live=0)]))
    assert "no instances are left" in nothing
    remaining = list(live.closing_lines(await status()))
    assert remaining[0] == "Stopped. The instances keep running without supervision: 3 of store, 3 of web."
    assert "infrakit up    adopts" in remaining[1]  # FILE may be older than what was committed since
    assert "infrakit down" in remaining[2]


def test_every_kind_of_event_has_at_most_one_colour() -> None:
    from infrakit.cli import reports

    known = set(Kind)
    assert set(reports.KIND_COLOURS) <= known
    for a, b in itertools.combinations((reports._BAD, reports._GOOD, reports._UNCERTAIN), 2):
        assert not a & b
