"""The arithmetic of a quorum."""

import pytest

from infrakit.spi.quorum import can_lose, majority


@pytest.mark.parametrize(
    ("voters", "needed", "spare"),
    [(0, 1, 0), (1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (6, 4, 2), (7, 4, 3)],
)
def test_an_even_number_of_voters_can_lose_no_more_than_one_fewer(voters: int, needed: int, spare: int) -> None:
    assert (majority(voters), can_lose(voters)) == (needed, spare)
