"""The slots of a census are packed, and come back as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrakit.gate.census import pack, unpack
from infrakit.spi.values import Slot

SLOTS = st.sets(st.one_of(st.integers(0, 60).map(str), st.text(max_size=6)).map(Slot))


@given(SLOTS)
def test_slots_come_back(slots: set[Slot]) -> None:
    assert set(unpack(pack(slots))) == slots


def test_ordinals_are_ranges_and_names_stay() -> None:
    slots = ["3", "1", "2", "7", "9", "10", "db-1", "007", "1-2"]
    assert pack(map(Slot, slots)) == ("1-3", "7", "9-10", "=007", "=1-2", "=db-1")
    assert pack(Slot(str(n)) for n in range(1, 10_001)) == ("1-10000",)


@pytest.mark.parametrize("packed", ["1-", "x", "", "1-99999999999", "3-x"])
def test_what_pack_does_not_return_is_an_error(packed: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|too many"):
        list(unpack([packed]))
