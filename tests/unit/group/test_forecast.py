"""A forecast names the lowest redundancy on the way: how many declared members stay healthy at the worst moment."""

import json

import pytest

from infrakit.group.forecast import foresee
from infrakit.spi.group import Healing, Updating
from infrakit.spi.values import Health
from tests.stage import Stage, cattle, in_virtual_time
from tests.worlds import OLD, member, pet, view, want


@pytest.mark.parametrize(
    ("updating", "lowest"),
    [
        (Updating(), 3),
        (Updating(max_unavailable=2), 2),
        (Updating(max_unavailable="50%"), 2),
        (Updating(max_unavailable=0, max_surge=1), 4),
        (Updating(max_unavailable=1, max_surge=2), 3),
        (Updating(max_unavailable=3, canary=1, bake_time="1h"), 1),
    ],
)
def test_the_lowest_redundancy_of_a_rolling_update_follows_its_policy(updating: Updating, lowest: int) -> None:
    old = (member(str(n), version=OLD) for n in (1, 2, 3, 4))
    foreseen = foresee(want(4, updating=updating), view(*old))
    assert foreseen.last.converged
    assert foreseen.lowest == lowest


def test_a_quorum_keeps_all_but_one() -> None:
    old = (pet(i, version=OLD) for i in "abc")
    foreseen = foresee(want(ids="a b c", quorum=True, updating=Updating(max_unavailable=3)), view(*old, pets=True))
    assert foreseen.last.converged
    assert foreseen.lowest == 2


def test_members_that_are_unhealthy_or_surplus_do_not_count() -> None:
    members = [member("1"), member("2", Health.UNHEALTHY, since_s=200), member("3"), member("4")]
    assert foresee(want(4, healing=Healing(max_unhealthy=1)), view(*members)).lowest == 3
    assert foresee(want(2), view(*(member(str(n)) for n in range(1, 6)))).lowest == 2
    assert foresee(want(5), view(member("1"), member("2"))).lowest == 2
    assert foresee(want(ids="a b"), view(pet("a"), pet("b"), pet("x"), pets=True)).lowest == 2


@in_virtual_time
async def test_a_plan_states_it_and_changes_nothing() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        planned = await stage.operator.plan(text=json.dumps([cattle("web", 3, version=1)]), source="doc")
        assert planned.groups[0].lowest == "2 of 3 healthy"
        planned = await stage.operator.plan(text=json.dumps([cattle("web", 5)]), source="doc")
        assert planned.groups[0].lowest == ""
