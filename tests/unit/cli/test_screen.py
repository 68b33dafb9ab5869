"""The frames of the live view at 60, 80 and 120 columns, and which content is dropped first."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrakit.cli import layout, screen
from infrakit.spi.event import Event, Kind
from infrakit.spi.manager import GroupStatus, MemberStatus, Reasoned, Status, Verdict
from infrakit.spi.values import GroupID, InstanceID, LogicalID, Slot
from tests.unit.cli import canned

CTRL_C = "Ctrl-C stops this daemon and leaves the instances running."
SIZES = [(60, 20), (80, 24), (120, 40)]


def member(group: str, number: int, slot: str, url: str, **changes: object) -> MemberStatus:
    name = f"i-{number:012x}"
    values = {
        "group": GroupID(group),
        "id": InstanceID(name),
        "slot": Slot(slot),
        "logical_id": LogicalID(slot) if "." in slot else None,
        "state": "running",
        "health": Verdict.HEALTHY,
        "note": f"http http://{url}/health/{name}: 200",
        "age_s": 192.0,
        "up_to_date": True,
    }
    return MemberStatus(**values | changes)  # type: ignore[arg-type]


QUICKSTART = [
    *(member("counter", 10 + n, f"127.0.10.{n}", f"127.0.10.{n}:7070") for n in (1, 2, 3)),
    *(member("web", 20 + n, str(n), f"127.0.0.1:810{n}") for n in (1, 2, 3)),
]
SWARM = [
    member(group, n, f"10.77.0.{n}", f"10.77.0.{n}:2377", id=InstanceID(f"infrakit-{n:012x}"))
    for group, numbers in (("managers", (11, 12, 13)), ("workers", (21, 22)))
    for n in numbers
]
SIXTY = [member("web", n, str(n), f"127.0.0.1:{8100 + n}") for n in range(1, 61)]


def events_of(members: list[MemberStatus]) -> list[Event]:
    return [
        Event(
            seq=n,
            timestamp=canned.NOW,
            type=Kind.HEALTHY,
            group=each.group,
            slot=each.slot,
            instance=each.id,
            message=each.note,
        )
        for n, each in enumerate(members)
    ]


def draw(
    members: list[MemberStatus], size: tuple[int, int], *, groups: tuple[GroupStatus, ...] = (), **changes: Any
) -> list[str]:
    """The text of a frame."""
    names = sorted({each.group for each in members})
    status = Status(
        leader=True,
        replica="box",
        epoch=1,
        version=1,
        pid=4711,
        started=canned.STARTED,
        now=canned.NOW,
        groups=groups or tuple(canned.group(name, kind="pets" if "." in name else "cattle") for name in names),
    )
    scene = screen.Scene("infrakit up infrakit.yaml", CTRL_C, status, members, events_of(members))
    lines = screen.text(screen.frame(scene._replace(**changes), *size)).splitlines()
    assert max(map(len, lines)) <= size[0]
    assert len(lines) <= size[1]
    assert lines[-1] == layout.shorten(CTRL_C, size[0])
    return lines


def row(lines: list[str], name: str) -> list[str]:
    """The words of the only line that begins with this name."""
    (found,) = [line for line in lines if line.startswith(name)]
    return found.split()


@pytest.mark.parametrize("size", SIZES)
def test_the_quickstart_is_readable(size: tuple[int, int]) -> None:
    lines = draw(QUICKSTART, size)
    for each in QUICKSTART:
        words = row(lines, str(each.id))
        assert words[:6] == [each.id, each.group, each.slot, "running", "3m12s", "healthy"]
    assert row(lines, "web ") == ["web", "cattle", "3", "3", "3", "3", "converged"]
    assert not [line for line in lines if " more" in line]
    assert sum("Z healthy" in line for line in lines) >= 3


@pytest.mark.parametrize("size", SIZES)
def test_a_swarm_is_readable(size: tuple[int, int]) -> None:
    lines = draw(SWARM, size)
    for each in SWARM:
        words = [word for word in row(lines, str(each.id)) if word != each.group]
        assert words[:5] == [each.id, each.slot, "running", "3m12s", "healthy"]
    assert not [line for line in lines if " more" in line]


def test_only_the_note_is_shortened_at_80_columns() -> None:
    assert " ".join(row(draw(QUICKSTART, (80, 24)), "i-00000000000b")[6:]) == "http http://127..."
    assert "NOTE" not in "".join(draw(QUICKSTART, (60, 20)))
    assert row(draw(QUICKSTART, (120, 40)), "i-00000000000b")[-1] == "200"


def test_the_group_is_a_heading_where_its_column_does_not_fit() -> None:
    lines = draw(SWARM, (60, 20))
    assert "GROUP" not in next(line for line in lines if line.startswith("INSTANCE"))
    assert lines.index("managers:") == lines.index("workers:") - 4


@pytest.mark.parametrize("size", SIZES)
def test_among_sixty_members_the_unhealthy_come_first_and_the_rest_is_counted(size: tuple[int, int]) -> None:
    verdicts = {17: Verdict.UNHEALTHY, 58: Verdict.UNHEALTHY, 59: Verdict.UNKNOWN}
    members = [member("web", n, str(n), "127.0.0.1:1", health=verdicts.get(n, Verdict.HEALTHY)) for n in range(1, 61)]
    lines = draw(members, size)
    shown = [line for line in lines if line.startswith("i-")]
    assert [line.split()[2] for line in shown[:4]] == ["17", "58", "59", "1"]
    assert f"and {60 - len(shown)} more: {60 - len(shown)} healthy" in lines
    assert len(lines) == size[1]


def test_members_that_are_not_running_or_out_of_date_come_first() -> None:
    members = [*SIXTY[:40], *(member("web", n, str(n), "127.0.0.1:1", up_to_date=False) for n in range(41, 60))]
    members.append(member("web", 60, "60", "127.0.0.1:1", state="draining"))
    shown = [line.split()[2] for line in draw(members, (80, 24)) if line.startswith("i-")]
    assert shown[:3] == ["60", "41", "42"]


def test_among_many_groups_those_that_have_not_converged_come_first() -> None:
    groups = [canned.group(f"group-{n:02}") for n in range(40)]
    groups[33] = canned.group("group-33", phase="healing", converged=False)
    lines = draw([], (80, 24), groups=tuple(groups))
    assert lines[3].split()[0] == "group-33"
    hidden = 40 - sum(line.startswith("group-") for line in lines)
    assert f"and {hidden} more groups: {hidden} converged" in lines


def test_reasons_are_shown_in_full_where_they_fit_and_counted_otherwise() -> None:
    healing = canned.HEALING
    lines = " ".join(" ".join(draw(QUICKSTART, (80, 24), groups=(healing,))).split())
    assert f"= web: wait web-2: {canned.WAIT.reason}; it becomes healthy" in lines
    waiting = tuple(Reasoned(verb="wait", subject=f"web-{n}", reason="unhealthy " * 20) for n in range(50))
    crowded = draw(QUICKSTART, (80, 24), groups=(canned.group("web", converged=False, waiting=waiting),))
    shown = sum(line.startswith("= web") for line in crowded)
    assert shown > 0
    assert f"and {50 - shown} more; see: infrakit why GROUP" in crowded


def test_a_narrow_event_drops_the_instance_id_before_the_message() -> None:
    terminated = Event(
        seq=1,
        timestamp=canned.NOW,
        type=Kind.TERMINATED,
        group=GroupID("counter"),
        slot=Slot("127.0.10.2"),
        instance=InstanceID("i-8e8f5f7ee82f"),
        message="it exited with code 137 (SIGKILL)",
    )
    for width, line in (
        (120, "11:25:06Z terminated     counter/127.0.10.2 i-8e8f5f7ee82f: it exited with code 137 (SIGKILL)"),
        (80, "11:25:06Z terminated     counter/127.0.10.2: it exited with code 137 (SIGKILL)"),
        (60, "11:25:06Z terminated counter/127.0.10.2: it exited with c..."),
    ):
        assert line in draw(QUICKSTART, (width, 24), events=[terminated])


def test_halts_are_shown_first_and_many_are_counted() -> None:
    status = Status(
        leader=False,
        leading="cox",
        replica="box",
        epoch=1,
        version=1,
        pid=4711,
        started=canned.STARTED,
        now=canned.NOW,
        halts=(canned.HALT,) * 5,
        note="the store does not answer",
    )
    lines = draw([], (80, 24), status=status)
    assert "follows cox" in lines[1]
    assert lines[2] == "not active: the store does not answer"
    assert sum(line.startswith("HALTED") for line in lines) == 2
    assert "and 3 more halts" in lines


def test_no_text_contains_control_characters_or_needs_more_than_ascii() -> None:
    bad = member("web", 1, "1", "x", note="\x1b[31mred\nalert " * 9, state="run\x1bning", id=InstanceID("i\n1"))
    lines = draw([bad], (80, 24))
    assert "\x1b" not in "".join(lines)
    assert "".join(lines).isascii()


@given(st.integers(1, 200), st.integers(1, 80), st.sampled_from([QUICKSTART, SWARM, SIXTY, []]))
def test_every_frame_fits_any_terminal(width: int, height: int, members: list[MemberStatus]) -> None:
    draw(members, (width, height), groups=(canned.HEALING, canned.group("store")))


# -- tables ----------------------------------------------------------------------------------------------------------


@given(st.text("ab ", max_size=30), st.integers(0, 40))
def test_a_shortened_text_fits_and_is_marked(text: str, size: int) -> None:
    cut = layout.shorten(text, size)
    assert len(cut) <= size
    assert cut == text or size <= 3 or re.fullmatch(rf"{text[:1]}.*\.\.\.|\.\.\.", cut)


def test_columns_are_shortened_and_dropped_in_their_order() -> None:
    header, rows = ("NAME", "KIND", "NOTE"), [("web", "cattle", "n" * 40)]
    assert layout.fit(header, rows, None, shrink=("NOTE",)).widths == (4, 6, 40)
    assert layout.fit(header, rows, 54, shrink=("NOTE",)).widths == (4, 6, 40)
    assert layout.fit(header, rows, 53, shrink=("NOTE",)).widths == (4, 6, 39)
    assert layout.fit(header, rows, 22, shrink=("NOTE",)).widths == (4, 6, 8)
    assert layout.fit(header, rows, 21, shrink=("NOTE",)).columns == (0, 1)
    assert layout.fit(header, rows, 11, shrink=("NOTE",)).gap == 1
    assert layout.fit(header, rows, 11, shrink=("NOTE", "KIND")).columns == (0,)
