"""Human-readable output: ages, alignment, and no control characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrakit.cli import tables
from infrakit.cli.tables import Cell
from infrakit.spi.event import to_the_second


def test_counts_have_a_singular_and_a_plural() -> None:
    assert [tables.count(n, "instance") for n in (0, 1, 2)] == ["0 instances", "1 instance", "2 instances"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-3, "0s"),
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (192.4, "3m12s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (86399, "23h59m"),
        (86400, "1d00h"),
        (8640000, "100d00h"),
    ],
)
def test_an_age_has_two_units_at_most(seconds: float | None, text: str) -> None:
    assert tables.age(seconds) == text


def test_times_are_shown_to_the_second_in_utc() -> None:
    assert to_the_second("2026-11-23T11:21:54.601500Z") == "2026-11-23 11:21:54Z"
    assert to_the_second("") == ""
    assert tables.between("2026-11-23T11:21:54.6Z", "2026-11-23T11:25:06Z") == "3m11s"
    assert tables.between("", "2026-11-23T11:25:06Z") == "-"


@given(st.text())
def test_cleaned_text_has_no_control_characters(text: str) -> None:
    cleaned = tables.clean(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in cleaned)
    assert tables.clean(cleaned) == cleaned
    assert [c for c in cleaned if c.isalnum()] == [c for c in text if c.isalnum()]


@given(st.lists(st.tuples(st.text("ab ", max_size=12), st.sampled_from(["", "x", "yyyyyyyy"]), st.text(max_size=200))))
def test_columns_are_aligned_and_every_row_is_one_line_without_a_terminal(rows: list[tuple[str, str, str]]) -> None:
    head, *body = tables.table(("FIRST", "SECOND", "LAST"), [(a, Cell(b, "red"), c) for a, b, c in rows])
    assert len(body) == len(rows)
    second, last = head.index("SECOND"), head.index("LAST")
    for line, (_, b, c) in zip(body, rows, strict=True):
        assert line[second:].startswith(b)
        assert line[last:] == tables.clean(c).rstrip()
        assert "\x1b" not in line
