"""The format of times."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrakit.spi.event import timestamp


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1795951314.6015, "2026-11-29T11:21:54.601500Z"),
        (1795951314.9999998, "2026-11-29T11:21:55.000000Z"),
        (-0.5, "1969-12-31T23:59:59.500000Z"),
    ],
)
def test_a_time_has_microseconds_and_the_zone(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


@given(st.floats(min_value=-1e9, max_value=1e10))
def test_a_time_is_rounded_as_the_standard_library_does(seconds: float) -> None:
    exact = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    assert timestamp(seconds) == exact.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
